"""Soil moisture as an openEO UDF: the retrieval runs where the archive is.

    cube = backscatter.merge_cubes(ndvi).merge_cubes(angle)     # bands below, dimension t
    udf = openeo.UDF.from_file("openeo_udf.py", context={"model": "kgsm/model.core.onnx"})
    maps = cube.apply_dimension(process=udf, dimension="t")
    maps.execute_batch(job_options={"udf-dependency-archives": ["https://…/kgsm.zip#kgsm"]})

The archive holds the package kgsm_infer (its wheel, unpacked) and the model file; numpy and
xarray are the back end's. The native engine is asked for, so no onnxruntime has to be shipped.
Bands are named as a table's columns, unit included (``vh_linear``, ``ndvi``, ``angle_deg``,
statics too); ``context["bands"]`` renames a back end's own: {"VH": "vh_linear"}.
"""

import sys

import xarray

sys.path.insert(0, "kgsm")  # where the archive is unpacked


def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    """(bands, t, y, x) of inputs to (bands, t, y, x) of sm, sm_lower, sm_upper, flags."""
    from kgsm_infer.xarray import retrieve

    names = context.get("bands", {})
    inputs = cube.rename(t="time").to_dataset("bands")
    inputs = inputs.rename({name: column for name, column in names.items() if name in inputs})
    maps = retrieve(context["model"], inputs, every=True, engine="native")
    one_type = maps[["sm", "sm_lower", "sm_upper", "flags"]].astype("float32")  # flags stay exact
    return one_type.to_array("bands").rename(time="t").transpose("bands", "t", "y", "x")
