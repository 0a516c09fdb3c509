"""Lazy retrieval on xarray Datasets: dask decides where the blocks are worked on.

    import xarray, kgsm_infer.xarray
    stack = xarray.open_zarr("stack.zarr").chunk(time=-1, y=256, x=256)
    maps = kgsm_infer.xarray.retrieve("model.onnx", stack, every=True)
    maps.to_zarr("soil_moisture.zarr")        # on this machine, or on the cluster of the Client

Every chunk of (y, x) is one task that reads nothing but its own pixels, so a task that is lost
with its worker is done again elsewhere and gives the same bits.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..context import CONTEXT, ENOUGH
from ..errors import DataError, MissingError
from ..kernels.wcm import DB_TO_NEPER
from ..observations import FROM_DATE
from ..table import BACKSCATTER_FORMS, POLARISATIONS, sigma0_db
from .cube import LONG_NAMES
from .run import FLAG_MASKS, FLAG_MEANINGS, FROZEN, VARIABLES, retrieve_columns

if TYPE_CHECKING:
    from ..model import Model


def retrieve(model: str | Path, stack: Any, *, every: bool = False, engine: str = "auto") -> Any:
    """Soil moisture of a Dataset, lazily where it is made of dask arrays.

    model: a model file that every worker can read; each process loads it once.
    stack: an ``xarray.Dataset`` with variables named as a table's columns (``vh_db``,
        ``ndvi``, ``angle_deg``, ...), of dimensions among (time, y, x); times ascending and
        the same for all. Static rasters lack ``time``, constants have no dimension.
    every: each acquisition; otherwise the last.

    Returns a Dataset of sm, sm_lower, sm_upper and flags, (time, y, x). Scene context is the
    mean over all of (y, x) in linear power; field context has to be a variable, or every
    pixel is a field of its own and flagged ``context_missing``.
    DataError where a variable is missing, MissingError without xarray.
    """
    try:
        import xarray
    except ImportError:
        raise MissingError("this needs xarray: pip install 'kgsm[cluster]'") from None
    from .run import model_columns

    loaded = _model(str(model), engine)
    card = loaded.card
    names = [f"{card.polarisation}_db", *model_columns(loaded)]
    used, made = _variables(stack, names)
    flat = xarray.Dataset({name: stack[name] for name in used}, coords=stack.coords)
    for name in made:  # before the blocks: they see their own pixels only
        flat[name], flat[f"{name}_count"] = _scene_mean(flat, name)
    order = [dim for dim in ("time", "y", "x") if dim in flat.dims]
    if order != ["time", "y", "x"]:
        raise DataError(f"the dataset needs dimensions time, y and x; it has {order}")
    when = flat["time"].values
    if len(when) == 0 or not (np.diff(when) > np.timedelta64(0, "s")).all():
        raise DataError("the dataset's times must be ascending, each once")
    flat = flat.chunk(time=-1) if flat.chunks else flat
    template = _template(xarray, flat, every)
    options: dict[str, Any] = {"model": str(model), "engine": engine, "every": every}
    if flat.chunks:
        out = xarray.map_blocks(_block, flat, kwargs=options, template=template)
    else:
        out = _block(flat, **options)
    out.attrs["source"] = f"kgsm {card.kgsm_version}, {card.kind}"
    if card.simulated:
        out.attrs["comment"] = "SIMULATED: the model was trained on simulated data"
    return out


def _model(path: str, engine: str) -> Model:
    """Loaded once in a process, and again where the file has changed since."""
    changed = Path(path).stat().st_mtime_ns if Path(path).exists() else 0
    return _loaded(path, engine, changed)


@lru_cache(maxsize=4)
def _loaded(path: str, engine: str, changed: int) -> Model:
    from ..model import load

    return load(path, engine=engine)


def _variables(stack: Any, names: list[str]) -> tuple[list[str], list[str]]:
    """The dataset's variables that are read, and the scene contexts to make of them."""
    used: dict[str, None] = {}
    made: dict[str, None] = {}

    def need(name: str) -> None:
        polarisation = name.removesuffix("_db")
        if polarisation in POLARISATIONS:
            forms = [f"{polarisation}_{form}" for form in BACKSCATTER_FORMS]
            found = [form for form in forms if form in stack]
            if not found:
                raise DataError(f"the dataset has no {name}; it has {', '.join(stack.data_vars)}")
            used[found[0]] = None
            if "gamma0" in found[0]:
                need("angle_deg")
        elif name in stack:
            used[name] = None
        elif name == "ndvi" and "red" in stack and "nir" in stack:
            used.update({"red": None, "nir": None})
        elif name in CONTEXT:
            need(CONTEXT[name][0])
            if CONTEXT[name][1] == "scene":
                made[name] = None
        elif name not in FROM_DATE:
            raise DataError(f"the dataset has no {name!r}, which the model reads")

    for name in names:
        need(name)
    used.update({name: None for name in FROZEN if name in stack})
    return [*used], [*made]


def _scene_mean(flat: Any, name: str) -> tuple[Any, Any]:
    value = _column(flat, CONTEXT[name][0])
    power = np.exp(value * DB_TO_NEPER) if name.endswith("_db") else value
    mean = power.mean(["y", "x"])
    return (np.log(mean) / DB_TO_NEPER if name.endswith("_db") else mean), value.count(["y", "x"])


def _column(flat: Any, name: str) -> Any:
    """A column as a table holds it, made of the variables at hand; float64."""
    polarisation = name.removesuffix("_db")
    if polarisation in POLARISATIONS:
        form = next(f for f in (f"{polarisation}_{x}" for x in BACKSCATTER_FORMS) if f in flat)
        angle_deg = flat["angle_deg"].astype(np.float64) if "gamma0" in form else None
        return sigma0_db(form, flat[form].astype(np.float64), angle_deg)
    if name == "ndvi" and "ndvi" not in flat:
        red, nir = flat["red"].astype(np.float64), flat["nir"].astype(np.float64)
        return ((nir - red) / (nir + red)).where(nir + red > 0)
    return flat[name].astype(np.float64)


def _block(flat: Any, *, model: str, engine: str, every: bool) -> Any:
    """The retrieval of one chunk, all its dates in memory."""
    import xarray

    loaded = _model(model, engine)
    sizes = (flat.sizes["y"], flat.sizes["x"])
    dates = flat["time"].values.astype("datetime64[s]")
    planes: dict[str, NDArray[np.float64]] = {}

    def plane(name: str, acquisition: int) -> NDArray[np.float64]:
        if name not in planes:
            value = _column(flat, name)
            dims = [dim for dim in ("time", "y", "x") if dim in value.dims]
            shape = [len(dates) if "time" in dims else 1]
            shape += [flat.sizes[dim] if dim in dims else 1 for dim in ("y", "x")]
            planes[name] = value.transpose(*dims).values.reshape(shape)
        whole = planes[name]
        return np.broadcast_to(whole[acquisition if len(whole) > 1 else 0], sizes).ravel()

    def column(name: str, acquisition: int) -> tuple[NDArray[np.float64], Any]:
        if name in CONTEXT and f"{name}_count" in flat:
            return plane(name, acquisition), plane(f"{name}_count", acquisition) < ENOUGH["scene"]
        if name in CONTEXT and name not in flat:
            if CONTEXT[name][1] != "field":
                raise DataError(f"the dataset has no {name!r}; it has to be a variable here")
            return plane(CONTEXT[name][0], acquisition), True
        if name in FROM_DATE and name not in flat:
            return np.full(sizes, FROM_DATE[name](dates[acquisition])).ravel(), False
        return plane(name, acquisition), False

    targets = range(len(dates)) if every else range(len(dates) - 1, len(dates))
    parts = retrieve_columns(
        loaded,
        dates,
        targets,
        sizes[0] * sizes[1],
        column,
        [name for name in FROZEN if name in flat],
    )
    results = dict(zip(VARIABLES, ("sm", "lower", "upper", "flags"), strict=True))
    return xarray.Dataset(
        {
            name: (
                ("time", "y", "x"),
                np.stack([getattr(part, key).reshape(sizes) for part in parts]),
                attributes(name),
            )
            for name, key in results.items()
        },
        coords={dim: flat[dim] for dim in ("y", "x") if dim in flat.coords}
        | {"time": flat["time"][list(targets)]},
    )


def attributes(name: str) -> dict[str, Any]:
    """CF attributes of a result."""
    if name == "flags":
        return {
            "long_name": LONG_NAMES[name],
            "standard_name": "quality_flag",
            "flag_masks": np.asarray(FLAG_MASKS, np.uint16),
            "flag_meanings": FLAG_MEANINGS,
        }
    return {
        "long_name": LONG_NAMES[name],
        "standard_name": "volume_fraction_of_condensed_water_in_soil",
        "units": "1",
    }


def _template(xarray: Any, flat: Any, every: bool) -> Any:
    """What the result will look like, nothing computed."""
    if not flat.chunks:
        return None
    import dask.array

    times = flat["time"] if every else flat["time"][-1:]
    shape = (len(times), flat.sizes["y"], flat.sizes["x"])
    chunks = (shape[:1], flat.chunks["y"], flat.chunks["x"])
    return xarray.Dataset(
        {
            name: (
                ("time", "y", "x"),
                dask.array.empty(shape, dtype=dtype.newbyteorder("="), chunks=chunks),
                attributes(name),
            )
            for name, dtype in VARIABLES.items()
        },
        coords={dim: flat[dim] for dim in ("y", "x") if dim in flat.coords} | {"time": times},
    )
