"""Lazy retrieval on xarray Datasets: dask decides where the blocks are worked on.

    import xarray, kgsm_infer.xarray
    stack = xarray.open_zarr("stack.zarr").chunk(time=-1, y=256, x=256)
    maps = kgsm_infer.xarray.retrieve("model.onnx", stack, every=True)
    maps.to_zarr("soil_moisture.zarr")        # on this machine, or on the cluster of the Client

Every chunk of (y, x) is one task that reads nothing but its own pixels, so a task that is lost
with its worker is done again elsewhere and gives the same bits.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from ..base.extras import optional
from ..base.fingerprint import file_stamp
from ..context.definitions import CONTEXT, SharedBy, first_available, needed
from ..scenes.orbits import NO_ORBITS, check_orbits, read_orbits, several_clocks
from ..scenes.rain import weather_at
from ..scenes.times import read_times
from ..scenes.validity import PACKING, valid_range_rule
from ..tables.averaging import mean_of, to_power
from ..tables.columns import (
    FROM_DATE,
    first_possible,
    is_backscatter,
    make,
    origins,
    possible,
)
from ..tables.dates import is_future
from ..tables.passes import number_passes
from ..tables.vegetation import held_columns
from ..tables.weather import Weather, is_weather, read_weather
from .attributes import VARIABLES, cf_attributes
from .blocks import PixelBlock, retrieve_pixels
from .context import BlockContext, Context, Pixels
from .hold import Hold

if TYPE_CHECKING:
    from ..model.card import Card
    from ..model.model import Model


#: Coordinate that holds the relative orbit of each time within this module.
_ORBIT = "kgsm_orbit"


def retrieve(
    model: str | Path,
    stack: Any,
    *,
    every: bool = False,
    engine: str = "auto",
    allow_future: bool = False,
    hold_vegetation_days: float = 0.0,
    weather: str | Path | None = None,
    weather_utc_offset_hours: float = 0.0,
) -> Any:
    """Retrieve a Dataset, lazily where it is made of dask arrays.

    model: a model file that every worker can read; each process loads it once.
    stack: an ``xarray.Dataset`` with variables named as a table's columns (``vh_db``,
        ``ndvi``, ``angle_deg``, ...), of dimensions among (time, y, x); times ascending and
        the same for all. Static rasters lack ``time``, constants have no dimension. A coordinate
        or variable ``orbit`` or ``relative_orbit`` (time,) keeps relative orbits apart where the
        model compares a place with its past.
    every: each acquisition; otherwise the last.
    allow_future: use acquisitions later than tomorrow; otherwise they are left out with a warning.
    hold_vegetation_days: fill missing vegetation that the model reads from the pixel's last
        acquisition, at most so many days old; flagged ``vegetation_old``.
    weather: a daily weather file of one place (``date``, ``rain_mm``), for a model that reads rain.
        A variable of the dataset overrides it.
    weather_utc_offset_hours: offset of its days from UTC.

    Returns a Dataset of sm, sm_lower, sm_upper (named after the quantity) and flags,
    (time, y, x). Scene context is the mean over all of (y, x), of backscatter in linear power.
    Field context has to be a variable, otherwise each pixel is one field and flagged
    ``context_missing``.
    DataError where a variable is missing, or its dimensions or times cannot be read;
    MissingError without xarray.
    """
    xarray = optional("xarray", what="retrieval on a Dataset", extra="cluster")
    if not isinstance(model, str | os.PathLike):
        raise TypeError(
            f"model must be the path of a model file, which every worker loads, not "
            f"{type(model).__name__}"
        )
    loaded = _model(str(model), engine)
    card = loaded.card
    _check_dataset(xarray, stack)
    simulated = ["the model was trained on simulated data"] if card.simulated else []
    if weather is not None:
        rain = read_weather(weather, weather_utc_offset_hours)
        with_rain = _with_weather(stack, rain, card)
        if rain.simulated and with_rain is not stack:
            simulated.append("the weather is simulated")
        stack = with_rain
    used, made = _variables(stack, card.inputs.columns, card.optional_columns)
    flat = _with_times(_planes(xarray, stack, used))
    for name in origins(f"{card.polarisation}_db", flat):
        if is_backscatter(name) and "time" not in flat[name].dims:
            raise DataError(
                f"the dataset's {name} has no dimension time; each acquisition has its own "
                "backscatter"
            )
    flat = flat.assign_coords({_ORBIT: ("time", _orbits_of(stack, flat))})
    if not allow_future:
        flat = _without_future(flat)
    flat = _in_passes(xarray, flat)
    contexts = needed(card.inputs.columns, stack.__contains__)
    if any(CONTEXT[name].shared_by.is_past for name in contexts):
        _check_past(flat)
    flat = _chunked_alike(flat)
    task = ChunkTask(str(model), engine, hold_vegetation_days)
    for name in made:  # before the blocks: they see their own pixels only, bases first
        flat[name], flat[f"{name}_count"] = _scene_mean(flat, name, task)
    template = _template(xarray, flat, every, card)
    options: dict[str, Any] = {"task": task, "every": every}
    if flat.chunks:
        out = xarray.map_blocks(_block, flat, kwargs=options, template=template)
    else:
        out = _block(flat, **options)
    out.attrs["source"] = f"kgsm {card.kgsm_version}, {card.kind}"
    if simulated:
        out.attrs["comment"] = f"SIMULATED: {' and '.join(simulated)}"
    return out


@dataclass(frozen=True)
class ChunkTask:
    """Hold what a worker needs besides its chunk: model file, engine, age of held vegetation."""

    model: str
    engine: str
    hold_vegetation_days: float

    def load(self) -> Model:
        """Return the model of this process."""
        return _model(self.model, self.engine)


def _check_dataset(xarray: Any, stack: Any) -> None:
    """Raise DataError where ``stack`` is not a Dataset."""
    if isinstance(stack, xarray.DataArray):
        raise DataError(
            "the stack is an xarray.DataArray; pass a Dataset whose variables are named after "
            "columns, such as array.to_dataset('band')"
        )
    if not isinstance(stack, xarray.Dataset):
        raise DataError(f"the stack is a {type(stack).__name__}; pass an xarray.Dataset")


def _with_weather(stack: Any, weather: Weather, card: Card) -> Any:
    """Add the weather features that the model reads and the dataset lacks, (time,) each."""
    wanted = [name for name in card.inputs.columns if is_weather(name) and name not in stack]
    if not wanted or "time" not in stack.coords:
        return stack
    times = read_times(stack["time"], "the dataset")
    return stack.assign({name: ("time", weather_at(weather, name, times)) for name in wanted})


def _planes(xarray: Any, stack: Any, names: Sequence[str]) -> Any:
    """Return the variables of ``stack`` on (time, y, x); DataError where one has another axis."""
    planes = {}
    for name in names:
        plane = stack[name]
        others = [dim for dim in plane.dims if dim not in ("time", "y", "x")]
        long = [f"{dim} ({plane.sizes[dim]})" for dim in others if plane.sizes[dim] != 1]
        if long:
            lacks = [dim for dim in ("y", "x") if dim not in plane.dims]
            remedy = f"rename them to {' and '.join(lacks)}" if lacks else "select one of it"
            raise DataError(
                f"the dataset needs dimensions time, y and x; its {name} also has "
                f"{', '.join(long)}; {remedy}"
            )
        if plane.dtype.kind not in "iuf":
            raise DataError(
                f"the dataset's {name} is of type {plane.dtype}; expected real numbers: convert it "
                f"first, such as stack.{name}.astype(float)"
            )
        plane = _valid(xarray, name, plane)
        planes[name] = plane.squeeze(others, drop=True).reset_coords(drop=True)
    axes = [name for name in ("time", "y", "x") if name in stack.coords]
    coords = {name: stack.coords[name].variable for name in axes}
    flat = xarray.Dataset(planes, coords=coords)
    order = [dim for dim in ("time", "y", "x") if dim in flat.dims]
    if order != ["time", "y", "x"]:
        raise DataError(f"the dataset needs dimensions time, y and x; it has {order}")
    empty = [dim for dim in ("y", "x") if flat.sizes[dim] == 0]
    if empty:
        raise DataError(f"the dataset has no pixel: dimension {empty[0]} has length 0")
    return flat


def _valid(xarray: Any, name: str, plane: Any) -> Any:
    """Mask what a variable declares as missing; DataError where its numbers are packed or lost."""
    defaults: dict[str, Any] = {"scale_factor": 1.0, "add_offset": 0.0}
    packed = [
        key
        for key in PACKING
        if key in plane.attrs and not np.all(plane.attrs[key] == defaults.get(key))
    ]
    if packed:
        raise DataError(
            f"the dataset's {name} has the attribute {packed[0]}, so its numbers may be packed; "
            "open it with mask_and_scale=True, or call xarray.decode_cf (and remove the attribute "
            "from numbers that are decoded)"
        )
    rule = valid_range_rule(plane.attrs, plane.encoding, plane.dtype, f"the dataset's {name}")
    if rule is None:
        return plane
    return xarray.apply_ufunc(
        rule, plane, dask="parallelized", output_dtypes=[np.float64], keep_attrs=True
    )


def _with_times(flat: Any) -> Any:
    """Read the time coordinate; DataError where it is missing, unreadable or not ascending."""
    if "time" not in flat.coords:
        raise DataError(
            "the dataset has no time coordinate, so its dates are unknown; assign one: "
            "stack.assign_coords(time=...)"
        )
    times = read_times(flat["time"], "the dataset")
    late = np.flatnonzero(np.diff(times) <= np.timedelta64(0, "s"))
    if len(times) == 0:
        raise DataError("the dataset has no acquisition: dimension time has length 0")
    if len(late):
        raise DataError(
            f"the dataset's times must be ascending, each once; {times[late[0] + 1]} follows "
            f"{times[late[0]]}; sort and select them first"
        )
    return flat.assign_coords(time=("time", times.astype("datetime64[ns]")))


def _orbits_of(stack: Any, flat: Any) -> NDArray[np.str_]:
    """Return the relative orbit of each acquisition, "" where the dataset names none, (time,)."""
    count = flat.sizes["time"]
    found = read_orbits(stack.variables, "time", count, "the dataset")
    return np.asarray(found or [""] * count, np.str_)


def _check_past(flat: Any) -> None:
    """Raise DataError where some orbits only are known; warn where none is and passes differ."""
    orbits, times = flat[_ORBIT].values.tolist(), flat["time"].values.astype("datetime64[s]")
    remedy = "give a coordinate orbit (time,)"
    check_orbits(orbits, times, remedy)
    if not any(orbits) and several_clocks(times):
        warnings.warn(f"the dataset has {NO_ORBITS}; {remedy}", stacklevel=3)


def _chunked_alike(flat: Any) -> Any:
    """Give all variables one chunking with whole time series; unchanged without dask arrays."""
    lazy = [item for item in flat.data_vars.values() if item.chunks is not None]
    if not lazy:
        return flat
    sizes = {dim: size for item in lazy for dim, parts in item.chunksizes.items() for size in parts}
    unknown = [dim for dim, size in sizes.items() if size != size]  # dask writes NaN
    if unknown:
        raise DataError(
            f"the dataset has chunks of unknown size along {unknown[0]}; call "
            "compute_chunk_sizes() on the dask array first"
        )
    # chunks of one variable may cut those of another: take every boundary
    cuts: dict[str, set[int]] = {"y": {flat.sizes["y"]}, "x": {flat.sizes["x"]}}
    for item in lazy:
        for dim, ends in cuts.items():
            ends.update(np.cumsum(item.chunksizes.get(dim, ())).tolist())
    chunks = {dim: tuple(np.diff([0, *sorted(ends)]).tolist()) for dim, ends in cuts.items()}
    return flat.chunk({"time": -1, **chunks})


def _model(path: str, engine: str) -> Model:
    """Return the model, loaded once in a process and again after its file has changed."""
    return _loaded(path, engine, tuple(file_stamp(path)))


@lru_cache(maxsize=4)
def _loaded(path: str, engine: str, changed: tuple[int, ...]) -> Model:
    from ..model.model import load

    return load(path, engine=engine)


def _variables(
    stack: Any, names: Sequence[str], optional_columns: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the dataset's variables that are read, and the scene contexts to make of them."""
    used: dict[str, None] = {}
    contexts = needed(names, lambda name: name in stack)
    # every pixel is a field, so a mean over fields is a mean over the scene
    kinds = (SharedBy.SCENE, SharedBy.FIELDS)
    made = [name for name in contexts if CONTEXT[name].shared_by in kinds]
    for name in [*names, *contexts]:
        column = first_available(name, stack)
        found = origins(column, stack)
        if not found and column not in FROM_DATE:
            raise DataError(
                f"the dataset has no {column}, which the model reads; "
                f"it has {', '.join(stack.data_vars)}"
            )
        used.update(dict.fromkeys(found))
        if name in CONTEXT and name not in stack:  # what it departs from is not all it needs
            used.update(dict.fromkeys(origins(first_available(name, ()), stack)))
    for name in optional_columns:
        used.update(dict.fromkeys(origins(name, stack)))
    return [*used], made


def _without_future(flat: Any) -> Any:
    """Leave out acquisitions later than tomorrow; DataError where no other is left."""
    future = is_future(flat["time"].values)
    if not future.any():
        return flat
    day = str(flat["time"].values[future][0])[:10]
    if future.all():
        raise DataError(f"the acquisition of {day} is of the future; allow_future accepts it")
    warnings.warn(
        f"the acquisition of {day} is of the future and left out ({int(future.sum())} in all); "
        "allow_future accepts it",
        stacklevel=3,
    )
    return flat.isel(time=np.flatnonzero(~future))


def _in_passes(xarray: Any, flat: Any) -> Any:
    """Give a pass one time: where a frame has no possible value the next frame's is taken."""
    number = number_passes(flat["time"].values.astype("datetime64[s]"))
    if len(number) == number.max() + 1:
        return flat
    first = np.unique(number, return_index=True)[1]
    orbits = flat[_ORBIT].values
    if (differ := np.flatnonzero(orbits != orbits[first][number])).size:
        raise DataError(
            f"the dataset's acquisition of {flat['time'].values[differ[0]]} belongs to the pass of "
            f"{flat['time'].values[first[number[differ[0]]]]} and is of another orbit; correct the "
            "times or orbits"
        )
    flat = flat.drop_vars(_ORBIT)
    moving = [name for name, item in flat.data_vars.items() if "time" in item.dims]
    passes = []
    for one in range(number.max() + 1):
        frames = np.flatnonzero(number == one)
        whole = flat[moving].isel(time=frames[:1])
        for frame in frames[1:]:
            later = flat[moving].isel(time=[frame]).assign_coords(time=whole["time"])
            whole = whole.assign(
                {name: _merged(xarray, name, whole[name], later[name]) for name in moving}
            )
        passes.append(whole)
    joined = xarray.concat(passes, "time")
    still = [name for name in flat.data_vars if name not in moving]
    joined = joined.assign({name: flat[name] for name in still})
    return joined.assign_coords({_ORBIT: ("time", orbits[first])})


def _merged(xarray: Any, name: str, frame: Any, later: Any) -> Any:
    return xarray.apply_ufunc(
        partial(first_possible, name),
        frame,
        later,
        dask="parallelized",
        output_dtypes=[frame.dtype],
    )


def _scene_mean(flat: Any, name: str, task: ChunkTask) -> tuple[Any, Any]:
    """Return the scene's mean on each date, and its number of pixels."""
    xarray = optional("xarray", what="retrieval on a Dataset", extra="cluster")
    column = CONTEXT[name].base
    made = column in CONTEXT and column not in flat
    made = made or column in held_columns(
        task.load().card.inputs.columns, task.hold_vegetation_days
    )
    value = xarray.apply_ufunc(
        lambda values: possible(column, values),
        _remembered(flat, column, task) if made else _column(flat, column),
        dask="parallelized",
        output_dtypes=[np.float64],
    )
    count = value.count(["y", "x"])
    return mean_of(column, to_power(column, value).sum(["y", "x"]), count), count


def _remembered(flat: Any, name: str, task: ChunkTask) -> Any:
    """Make a context of each pixel's own past, (time, y, x), chunk by chunk."""
    xarray = optional("xarray", what="retrieval on a Dataset")

    def block(some: Any) -> Any:
        dates = range(some.sizes["time"])
        context = _context_of(some, task)
        sizes = (len(dates), some.sizes["y"], some.sizes["x"])
        values = np.stack([context.column(name, day) for day in dates]).reshape(sizes)
        coords = {dim: some[dim] for dim in some.coords if dim in some.dims}
        return xarray.DataArray(values, coords, ("time", "y", "x"))

    if not flat.chunks:
        return block(flat)
    like = flat[next(iter(flat.data_vars))].isel(time=0, drop=True)
    template = (like * flat["time"].astype(np.float64)).transpose("time", "y", "x")
    template = template.drop_vars(_ORBIT)
    return xarray.map_blocks(block, flat, template=template.chunk(flat.chunks).astype(np.float64))


def _column(flat: Any, name: str) -> Any:
    """Return a column as a table has it, computed from the variables present; float64."""
    xarray = optional("xarray", what="retrieval on a Dataset", extra="cluster")
    names = origins(name, flat)
    return xarray.apply_ufunc(
        lambda *values: make(name, dict(zip(names, values, strict=True))),
        *(flat[item].astype(np.float64) for item in names),
        dask="parallelized",
        output_dtypes=[np.float64],
    )


def _block(flat: Any, *, task: ChunkTask, every: bool) -> Any:
    """Retrieve one chunk, all its dates in memory."""
    xarray = optional("xarray", what="retrieval on a Dataset", extra="cluster")
    loaded = task.load()
    sizes = (flat.sizes["y"], flat.sizes["x"])
    dates = flat["time"].values.astype("datetime64[s]")
    targets = range(len(dates)) if every else range(len(dates) - 1, len(dates))
    block = PixelBlock(
        context=_context_of(flat, task),
        dates=dates,
        targets=targets,
        optional=tuple(name for name in loaded.card.optional_columns if origins(name, flat)),
    )
    found = retrieve_pixels(loaded, block)
    return xarray.Dataset(
        {
            loaded.card.retrieves.column_of(name): (
                ("time", "y", "x"),
                plane.reshape(len(targets), *sizes),
                cf_attributes(name, loaded.card),
            )
            for name, plane in found.items()
        },
        coords={dim: flat[dim] for dim in ("y", "x") if dim in flat.coords}
        | {"time": flat["time"].drop_vars(_ORBIT)[list(targets)]},
    )


def _context_of(flat: Any, task: ChunkTask) -> BlockContext:
    """Return the columns of a chunk, those made of its pixels' past included."""
    model = task.load()
    sizes = (flat.sizes["y"], flat.sizes["x"])
    dates = flat["time"].values.astype("datetime64[s]")
    planes: dict[str, NDArray[np.float64]] = {}

    def plane(name: str, acquisition: int) -> NDArray[np.float64]:
        if name in FROM_DATE and name not in flat:
            return np.full(sizes, FROM_DATE[name](dates[acquisition])).ravel()
        if name not in planes:
            value = _column(flat, name)
            dims = [dim for dim in ("time", "y", "x") if dim in value.dims]
            shape = [len(dates) if "time" in dims else 1]
            shape += [flat.sizes[dim] if dim in dims else 1 for dim in ("y", "x")]
            planes[name] = value.transpose(*dims).values.reshape(shape)
        whole = planes[name]
        return np.broadcast_to(whole[acquisition if len(whole) > 1 else 0], sizes).ravel()

    made = [name.removesuffix("_count") for name in flat.data_vars if f"{name}".endswith("_count")]
    scenes = {name: (flat[name].values, flat[f"{name}_count"].values) for name in made}
    pixels = Pixels(
        count=sizes[0] * sizes[1],
        has=lambda name: name in flat and f"{name}_count" not in flat,
        column=plane,
        rule=model.card.history,
        remembered=range(len(dates)),
        orbits=flat[_ORBIT].values.tolist(),
        hold=Hold.of(model, dates, task.hold_vegetation_days),
    )
    return BlockContext(pixels, Context(scenes=scenes))


def _template(xarray: Any, flat: Any, every: bool, card: Card) -> Any:
    """Return an empty Dataset with the shape of the result."""
    if not flat.chunks:
        return None
    import dask.array

    times = flat["time"].drop_vars(_ORBIT)[slice(None) if every else slice(-1, None)]
    shape = (len(times), flat.sizes["y"], flat.sizes["x"])
    chunks = (shape[:1], flat.chunks["y"], flat.chunks["x"])
    return xarray.Dataset(
        {
            card.retrieves.column_of(name): (
                ("time", "y", "x"),
                dask.array.empty(shape, dtype=dtype.newbyteorder("="), chunks=chunks),
                cf_attributes(name, card),
            )
            for name, dtype in VARIABLES.items()
        },
        coords={dim: flat[dim] for dim in ("y", "x") if dim in flat.coords} | {"time": times},
    )
