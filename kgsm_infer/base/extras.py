"""Import optional packages, or name the extra of kgsm that installs them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from .errors import MissingError, is_out_of_memory

#: Package -> the extra that brings it.
BROUGHT_BY: Mapping[str, str] = {
    "rasterio": "raster",
    "shapely": "raster",
    "exactextract": "raster",
    "pyogrio": "raster",
    "pyproj": "raster",
    "netCDF4": "raster",
    "zarr": "raster",
    "matplotlib": "raster",
    "rich": "raster",
    "xarray": "raster",
    "pyarrow": "parquet",
    "sarsen": "prepare",
    "pystac_client": "prepare",
}


def optional(package: str, *modules: str, what: str, extra: str | None = None) -> Any:
    """Import a package, and those of its ``modules`` that must be loaded by name.

    what: the feature that needs it, for the error.  extra: if not the one in BROUGHT_BY.
    MissingError names the extra if the package is not installed, and the cause if it is but
    does not load.

    >>> optional("shapeless", what="a doctest")
    Traceback (most recent call last):
    kgsm_infer.base.errors.MissingError: a doctest needs shapeless, which is not installed
    """
    try:
        loaded = import_module(package)
        for module in modules:
            import_module(f"{package}.{module}")
    except ImportError as error:
        if is_out_of_memory(error):
            raise MissingError(f"{what}: not enough memory to load {package}") from None
        extra = extra or BROUGHT_BY.get(package)
        bring = f": pip install 'kgsm[{extra}]'" if extra else ""
        absent = isinstance(error, ModuleNotFoundError) and error.name == package
        state = "is not installed" if absent else f"does not load ({error})"
        raise MissingError(f"{what} needs {package}, which {state}{bring}") from None
    return loaded
