"""Retrieve soil moisture in an openEO UDF, at the back end that has the archive.

    cube = backscatter.merge_cubes(ndvi).merge_cubes(angle)     # bands below, dimension t
    udf = openeo.UDF.from_file("openeo_udf.py", context={"model": "kgsm/model.core.onnx"})
    maps = cube.apply_dimension(process=udf, dimension="t")
    maps.execute_batch(job_options={"udf-dependency-archives": ["https://…/kgsm.zip#kgsm"]})

The archive has the package kgsm_infer (its unpacked wheel) and the model file; the back end has
numpy and xarray. The native engine is used, so onnxruntime is not needed. Bands are named like the
columns of a table, unit included (``vh_linear``, ``ndvi``, ``angle_deg``, statics too);
``context["bands"]`` renames the back end's bands: {"VH": "vh_linear"}.
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
