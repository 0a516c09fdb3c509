"""Open a scene: inspect every file once, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..base.errors import DataError
from ..context.definitions import CONTEXT, first_available
from ..tables.columns import FROM_DATE, FROZEN_BY, LAYER_RULES, POLARISATIONS, is_fill, origins
from .cubes import Cube
from .grid import Grid, Window, crs_of, stated_grid
from .layers import Layer, Slice, baseline_in, with_slices
from .manifest import Scene
from .open_files import OpenFiles, shared_files
from .reader import Reader
from .stack import Stack

#: Side of the windows in which a layer's unit is checked.
SAMPLE = 256


def open_stack(
    scene: Scene,
    polarisation: str,
    columns: Sequence[str],
    optional: Sequence[str] = FROZEN_BY,
    files: OpenFiles | None = None,
) -> Stack:
    """Look at a scene: dates, grid, what each of ``columns`` is made of, and its units.

    columns: as a model names them (``vh_db``, ``ndvi``, ``angle_deg``, features, statics);
    those made from date or context need no layer.  optional: columns read where a layer has them.
    files: left open for the readers that follow; None to open and close them here.
    DataError where one cannot be made, a
    file cannot be read, a grid differs although ``resample`` is "refuse", or the numbers of
    a layer cannot be of its unit.
    """
    name = scene.backscatter(polarisation)
    wanted = [f"{polarisation}_db", *columns]
    wanted += [first_available(column, scene.layers) for column in wanted]
    wanted += [column for column in optional if origins(column, scene.layers)]
    layers: dict[str, Layer] = {}
    for column in dict.fromkeys(wanted):
        if column in FROM_DATE or (column in CONTEXT and column not in scene.layers):
            continue
        needed = origins(column, scene.layers)
        if not needed:
            raise DataError(_no_layer(scene, column))
        for item in needed:
            layers.setdefault(item, scene.layers[item])
    with shared_files(files) as files:
        layers = {key: _resolved(scene.source, layer, files) for key, layer in layers.items()}
        dates = [item.date for item in layers[name].slices]
        if not dates or None in dates:
            raise DataError(
                f"{scene.source}: layers.{name} must be files with dates; they are the acquisitions"
            )
        return _open_layers(scene, layers, name, dates, files)


def open_series(scene: Scene, column: str, grid: Grid | None = None) -> Stack:
    """Open a scene of one column and its dates, ``ndvi`` from red and nir too, no backscatter.

    grid: to bring it to; None for the manifest's, else that of its last file. DataError as in
    :func:`open_stack`.
    """
    needed = origins(column, scene.layers)
    if not needed:
        raise DataError(_no_layer(scene, column))
    with shared_files() as files:
        layers = {name: _resolved(scene.source, scene.layers[name], files) for name in needed}
        of_each = [{item.date for item in layer.slices} for layer in layers.values()]
        dates = set.intersection(*of_each)
        if not dates or None in dates:
            raise DataError(
                f"{scene.source}: {column} must be files with dates, one image for each"
            )
        in_order = sorted(date for date in dates if date is not None)
        return _open_layers(scene, layers, needed[0], in_order, files, grid)


def _open_layers(
    scene: Scene,
    layers: Mapping[str, Layer],
    main: str,
    dates: Sequence[np.datetime64 | None],
    files: OpenFiles,
    grid: Grid | None = None,
) -> Stack:
    """Open the stack of layers with known dates and check every file of them.

    main: the layer whose last file gives tile and, where none is stated, grid.
    """
    grids = []
    for frame in layers[main].slices[-1].frames:
        source = files.open(frame.path, layers[main].crs)
        tile = source.tile
        grids.append(source.grid)
    grid = grid or stated_grid(scene) or _union(grids, f"{scene.source}: layers.{main}")
    paths = dict.fromkeys(
        frame.path for layer in layers.values() for item in layer.slices for frame in item.frames
    )
    stack = Stack(
        scene.source,
        scene.title,
        grid,
        np.asarray(dates, "datetime64[s]"),
        layers,
        tile,
        tuple(paths),
        scene.simulated,
    )
    orbits = {item.date: item.orbit for item in layers[main].slices}
    found = tuple(orbits[date] for date in dates)
    notes = tuple(_check_grids_and_units(stack, files))
    return replace(stack, notes=notes, orbits=found if any(found) else ())


def _union(grids: Sequence[Grid], place: str) -> Grid:
    """Return the grid that holds all frames of a pass; DataError where their grids differ."""
    first, *others = grids
    for other in others:
        if not first.is_shifted_by_pixels(other):
            raise DataError(
                f"{place}: the frames of its last pass lie on several grids "
                f"({first.in_words()}; {other.in_words()}); state the scene's [grid]"
            )
    return first.widened(others)


def _no_layer(scene: Scene, column: str) -> str:
    have = ", ".join(scene.layers)
    if column.endswith("_db") and column.removesuffix("_db") in POLARISATIONS:
        gamma = [name for name in scene.layers if name.startswith(column[:2] + "_gamma0")]
        if gamma:
            return (
                f"{scene.source}: layers.{gamma[0]} is gamma0; sigma0 = gamma0 cos(theta) needs "
                "[layers.angle_deg], a raster or value = 39.0"
            )
    hint = {
        "angle_deg": "; add [layers.angle_deg] with a raster, or value = 39.0",
        "ndvi": "; add [layers.ndvi], or [layers.red] and [layers.nir]",
    }.get(column, f"; add [layers.{column}]")
    return f"{scene.source}: no layer {column!r}, which the model reads; it has {have}{hint}"


def _resolved(source: str, layer: Layer, files: OpenFiles) -> Layer:
    """Return the layer with its CRS as WKT, and for a cube the dates of its time axis."""
    if layer.crs is not None:
        layer = replace(layer, crs=crs_of(layer.crs, f"{source}: layers.{layer.name}.crs"))
    if layer.cube is None:
        return layer
    file = files.open(layer.cube, layer.crs)
    dates = [file.time(band) for band in range(1, file.count + 1)]
    if dates == [None]:
        return replace(layer, cube=None, slices=(Slice(layer.cube),))
    if None in dates:
        why = file.no_times if isinstance(file, Cube) else f"{layer.cube}: has no times"
        raise DataError(f"{why}; or write dates = [...] in layers.{layer.name}")
    if len(set(dates)) < len(dates):
        raise DataError(f"{source}: layers.{layer.name}: {layer.cube} has one date twice")
    orbits = file.orbits if isinstance(file, Cube) else ()
    slices = [
        Slice(layer.cube, band, date, orbit=orbits[band - 1] if orbits else "")
        for band, date in enumerate(dates, start=1)
    ]
    return with_slices(replace(layer, cube=None), slices, f"{source}: layers.{layer.name}")


def _check_grids_and_units(stack: Stack, files: OpenFiles) -> list[str]:
    """Open every file, check where it lies, and sample the first and last of each layer.

    Returns a note for each file that does not lie over the scene. DataError where no file of a
    layer does.
    """
    notes: list[str] = []
    with Reader(stack, files) as reader:
        for layer in stack.layers.values():
            away = [frame for item in layer.slices for frame in _check_frames(reader, layer, item)]
            notes += _not_over(stack, layer, reader, away)
            _check_baselines(stack.source, layer, reader)
            ends = {item.path + str(item.band): item for item in layer.slices}
            for item in [*ends.values()][:1] + [*ends.values()][-1:]:
                _check_numbers(stack, layer, item, reader)
            if layer.value is not None:
                _check_unit(layer, f"{stack.source}: layers.{layer.name}", layer.value)
    return notes


def _check_baselines(source: str, layer: Layer, reader: Reader) -> None:
    """Raise DataError where Sentinel-2 numbers would get the offset of another processing baseline.

    From baseline 04.00 on 1000 is added to every number (ESA, Sentinel-2 Products Specification
    Document). A file's own offset counts, and one that the layer states for files of one kind.
    """
    if layer.name not in ("red", "nir"):
        return
    kinds: dict[bool, Slice] = {}
    for item in layer.slices:
        for frame in item.frames:
            if (baseline := baseline_in(frame.path)) is not None:
                kinds.setdefault(baseline >= 400, frame)
    own = {}
    for new, frame in kinds.items():
        file = reader.source(layer, frame)
        own[new] = file.scaling(file.band(frame.band))[1]
    place = f"{source}: layers.{layer.name}"
    if len(kinds) == 2 and (layer.offset is not None or own[True] == own[False]):
        raise DataError(
            f"{place}: {Path(kinds[False].path).name} was processed before baseline 04.00 and "
            f"{Path(kinds[True].path).name} since, and their offsets differ by 1000; one offset "
            "cannot serve both: make NDVI of them with prepare ndvi"
        )
    if True in kinds and layer.offset is None and own[True] == 0:
        raise DataError(
            f"{place}: {Path(kinds[True].path).name} is of baseline 04.00 or later, whose numbers "
            "have 1000 added; write offset = -0.1 with scale = 1e-4, or offset = 0.0 where the "
            "archive has subtracted it"
        )


def _not_over(stack: Stack, layer: Layer, reader: Reader, away: Sequence[Slice]) -> list[str]:
    """Name the files of a layer that do not lie over the scene; DataError if none does."""
    if not away:
        return []
    files = dict.fromkeys(frame.path for frame in away)
    count = len({frame.path for item in layer.slices for frame in item.frames})
    first = next(iter(files))
    where = reader.source(layer, away[0]).extent.in_words()
    if len(files) == count:
        raise DataError(
            f"{first}: does not lie over the scene ({where}; the scene: {stack.grid.in_words()}); "
            f"check the CRS and the files of layers.{layer.name}"
        )
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return [f"{first}{more}: not used, does not lie over the scene ({where})"]


def _check_frames(reader: Reader, layer: Layer, item: Slice) -> list[Slice]:
    """Open every frame of a pass; return those that do not lie over the scene.

    DataError where two frames are versions of one.
    """
    seen: dict[tuple[object, ...], str] = {}
    away = []
    for frame in item.frames:
        source = reader.source(layer, frame)
        source.band(frame.band)
        if not reader.covers(source):
            away.append(frame)
        if item.also:
            place = (frame.date, source.extent.transform, source.extent.width, source.extent.height)
            if place in seen:
                raise DataError(
                    f"{frame.path}: is of the same time and place as {seen[place]} (processed "
                    f"twice?); name one of them in layers.{layer.name}"
                )
            seen[place] = frame.path
    return away


def _check_numbers(stack: Stack, layer: Layer, item: Slice, reader: Reader) -> None:
    """Check samples of a file: no fill values, and values typical of the layer's unit."""
    grid = stack.grid
    high, wide = min(SAMPLE, grid.height), min(SAMPLE, grid.width)
    sample = [
        reader.decoded(
            layer,
            item,
            Window(int((grid.height - high) * down), int((grid.width - wide) * across), high, wide),
        )
        for down, across in ((0.5, 0.5), (0.1, 0.1), (0.9, 0.9))
    ]
    values = np.concatenate([plane[np.isfinite(plane)] for plane in sample])
    if not len(values):
        return
    place = f"{item.path}: layer {layer.name}"
    fill = values[is_fill(values)]
    if len(fill):
        raise DataError(
            f"{place}: holds {fill[0]:.6g}, a common fill value; "
            f"name it: nodata = {fill[0]:.6g} (in stored numbers)"
        )
    _check_unit(layer, place, float(np.median(values)))


def _check_unit(layer: Layer, place: str, typical: float) -> None:
    rule = LAYER_RULES.get(layer.name)
    if rule is not None and rule.outside(typical):
        cause = (
            rule.why(typical)
            .replace("the column", "the layer")
            .replace("leave the cell empty", "name it: nodata = …")
        )
        raise DataError(f"{place}: the typical value {typical:.6g} is not {rule.what}; {cause}")
