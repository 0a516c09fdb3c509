"""The public door to lazy retrieval on xarray and dask: :func:`kgsm_infer.maps.lazy.retrieve`.

import xarray, kgsm_infer.xarray
maps = kgsm_infer.xarray.retrieve("model.onnx", xarray.open_zarr("stack.zarr"))
"""

from .maps.lazy import retrieve

__all__ = ["retrieve"]
