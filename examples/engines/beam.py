"""Retrieve soil moisture in an Apache Beam pipeline, chunk by chunk of a Zarr archive.

    python beam.py model.core.onnx stack.zarr maps.zarr --side 256 [options of Beam's runner]

stack.zarr: (time, y, x) variables named as a table's columns, unit included (``vh_linear``,
``ndvi``, ``angle_deg``; statics without time). A chunk has all times of its pixels, so windows are
complete. With the native engine a worker needs only numpy, xarray-beam and kgsm. A model that
reads ``*_scene_db`` would average over one chunk: pass these columns as variables.
"""

from __future__ import annotations

import argparse
from functools import partial

import apache_beam
import xarray
import xarray_beam

from kgsm_infer.xarray import retrieve


def retrieved(key: xarray_beam.Key, chunk: xarray.Dataset, model: str) -> tuple:
    """A chunk's key and its maps: sm, sm_lower, sm_upper and flags of each acquisition."""
    return key, retrieve(model, chunk.load(), every=True, engine="native")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "stack", "maps"):
        parser.add_argument(name)
    parser.add_argument("--side", type=int, default=256, help="of a chunk, pixels")
    given, for_the_runner = parser.parse_known_args()
    stack, stored = xarray_beam.open_zarr(given.stack)
    chunks = {"time": -1, "y": given.side, "x": given.side}
    lazy = retrieve(given.model, stack.chunk(chunks), every=True, engine="native")
    with apache_beam.Pipeline(argv=for_the_runner) as pipeline:
        (
            pipeline
            | xarray_beam.DatasetToChunks(stack, stored, split_vars=False)
            | xarray_beam.Rechunk(stack.sizes, stored, chunks, itemsize=8)
            | apache_beam.MapTuple(partial(retrieved, model=given.model))
            | xarray_beam.ChunksToZarr(given.maps, xarray_beam.make_template(lazy), chunks)
        )


if __name__ == "__main__":
    main()
