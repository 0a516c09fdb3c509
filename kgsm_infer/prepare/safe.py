"""A Sentinel-1 GRD product in SAFE form: which files it has, and what its annotation says.

Sentinel-1 Product Specification, S1-RS-MDA-52-7441 (3.9): §6.3.1 product annotation. The files
are found by name, not by the manifest's list: subsets without some of them are common.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from ..scenes.gdal import open_dataset, rasterio_or_reason, read_failure
from ..scenes.orbits import relative_orbit

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

#: What a measurement's TIFF description begins with when its numbers were made, not measured.
SIMULATED = "SIMULATED"
_NAME = re.compile(r"(S1[A-D])_(\w\w)_(GRD\w|SLC_|OCN_|RAW_)_\w+_\d{8}T\d{6}_", re.ASCII)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PolarisationFiles:
    """The files of one polarisation."""

    measurement: Path
    annotation: Path
    calibration: Path
    noise: Path


@dataclass(frozen=True)
class Extent:
    """First and last line, and first and last sample, that annotation covers."""

    lines: tuple[float, float]
    samples: tuple[float, float]


@dataclass(frozen=True)
class Grid2D:
    """A quantity at tie points. lines: (L,), pixels: (P,), ascending; values: (L, P)."""

    lines: Floats
    pixels: Floats
    values: Floats

    @property
    def extent(self) -> Extent:
        """Lines and samples that the tie points cover."""
        return Extent(
            (float(self.lines[0]), float(self.lines[-1])),
            (float(self.pixels[0]), float(self.pixels[-1])),
        )

    def at(self, line: Floats, pixel: Floats) -> Floats:
        """Interpolate bilinearly at image positions; held constant beyond the tie points."""
        i, u = _between(self.lines, line)
        j, v = _between(self.pixels, pixel)
        table = self.values
        i1, j1 = np.minimum(i + 1, len(self.lines) - 1), np.minimum(j + 1, len(self.pixels) - 1)
        upper = (1 - v) * table[i, j] + v * table[i, j1]
        lower = (1 - v) * table[i1, j] + v * table[i1, j1]
        return np.asarray((1 - u) * upper + u * lower)


@dataclass(frozen=True)
class TiePoints:
    """The geolocation grid: longitude, latitude (deg), height over the ellipsoid (m), angle."""

    lon_deg: Grid2D
    lat_deg: Grid2D
    height_m: Grid2D
    angle_deg: Grid2D


@dataclass(frozen=True)
class Product:
    """A GRD product. channels: by polarisation, ``vv`` and ``vh`` (or ``hh``, ``hv``).

    first_line: UTC of line 0; line_interval_s, pixel_spacing_m: of the image.
    pass_: "A" or "D".  relative_orbit: 1-175.  state_times: (S,), state_positions_m: (S, 3)
    earth-fixed.  ground_*: (C,), (C,), (C, K): times, slant range origin (m) and coefficients
    of slant range to ground range.
    simulated: why its numbers may not be a measurement; empty when they are the product's own.
    """

    path: Path
    name: str
    mission: str
    absolute_orbit: int
    relative_orbit: int
    pass_: str
    ipf: str
    first_line: np.datetime64
    line_interval_s: float
    pixel_spacing_m: float
    lines: int
    samples: int
    channels: Mapping[str, PolarisationFiles]
    state_times: NDArray[np.datetime64]
    state_positions_m: Floats
    ground_times: NDArray[np.datetime64]
    ground_origin_m: Floats
    ground_coefficients: Floats
    tie_points: TiePoints
    simulated: str

    @property
    def ipf_version(self) -> tuple[int, ...]:
        """Version of the processor, to be compared: (3, 40)."""
        return tuple(map(int, re.findall(r"\d+", self.ipf)))

    @property
    def pass_id(self) -> str:
        """Mission, second of the first line, relative orbit, direction: ``S1B_…_022D``."""
        stamp = re.sub(r"[-:]", "", str(self.first_line.astype("datetime64[s]")))
        return f"{self.mission}_{stamp}_{self.relative_orbit:03d}{self.pass_}"


def read_product(path: str | Path) -> Product:
    """Look at a SAFE folder. DataError names the file that is missing or broken, and why."""
    path = Path(path)
    if path.name == "manifest.safe":
        path = path.parent
    if path.is_file():
        raise DataError(f"{path}: a SAFE product is a folder; unpack the archive first")
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; name the .SAFE folder of a GRD product")
    manifest = xml(path / "manifest.safe")
    name = path.name.removesuffix(".SAFE")
    kind = _NAME.match(name)
    if kind and not kind[3].startswith("GRD"):
        raise DataError(f"{path}: is {kind[3].rstrip('_')}; sigma0 reads GRD products")
    channels = _channels(path)
    first = next(iter(channels.values()))
    root = xml(first.annotation)
    image, place = "imageAnnotation/imageInformation", first.annotation
    if text(root, "adsHeader/productType", place) != "GRD":
        raise DataError(f"{place}: productType is not GRD; sigma0 reads GRD products")
    ground = _list(root, "coordinateConversion/coordinateConversionList", place)
    states = _list(root, "generalAnnotation/orbitList", place)
    product = Product(
        path=path,
        name=name,
        mission=text(root, "adsHeader/missionId", place),
        absolute_orbit=int(text(root, "adsHeader/absoluteOrbitNumber", place)),
        relative_orbit=_relative_orbit(root, manifest, place),
        pass_=text(root, "generalAnnotation/productInformation/pass", place)[:1].upper(),
        ipf=_ipf(manifest),
        first_line=_time(text(root, f"{image}/productFirstLineUtcTime", place), place),
        line_interval_s=number(root, f"{image}/azimuthTimeInterval", place),
        pixel_spacing_m=number(root, f"{image}/rangePixelSpacing", place),
        lines=int(number(root, f"{image}/numberOfLines", place)),
        samples=int(number(root, f"{image}/numberOfSamples", place)),
        channels=channels,
        state_times=np.asarray([_time(text(e, "time", place), place) for e in states]),
        state_positions_m=np.asarray(
            [[number(e, f"position/{axis}", place) for axis in "xyz"] for e in states]
        ),
        ground_times=np.asarray([_time(text(e, "azimuthTime", place), place) for e in ground]),
        ground_origin_m=np.asarray([number(e, "sr0", place) for e in ground]),
        ground_coefficients=_table(
            [numbers(e, "srgrCoefficients", place) for e in ground], "srgrCoefficients", place
        ),
        tie_points=_tie_points(root, place),
        simulated="",
    )
    _check_orbit(product, place)
    reasons = [_mismatch(product, channel, manifest) for channel in channels.values()]
    return Product(**{**product.__dict__, "simulated": next(filter(None, reasons), "")})


def _check_orbit(product: Product, place: Path) -> None:
    """Raise DataError where the state vectors end before the image does: nothing holds beyond."""
    duration = np.timedelta64(int(1e9 * product.line_interval_s * product.lines), "ns")
    first, last = product.state_times.min(), product.state_times.max()
    if first > product.first_line or last < product.first_line + duration:
        raise DataError(
            f"{place}: its state vectors are of {first.astype('M8[s]')} to {last.astype('M8[s]')}, "
            f"and the image is of {product.first_line.astype('M8[s]')} to "
            f"{(product.first_line + duration).astype('M8[s]')}; a truncated annotation?"
        )


def xml(path: Path) -> Element:
    """Read the root of an annotation file; DataError where it is missing or cut short."""
    try:
        return ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise DataError(f"{path}: is missing; download the product again") from None
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not whole XML ({error}); a truncated download?") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def text(element: Element, where: str, place: Path) -> str:
    """Return the text of a child; DataError without one."""
    found = element.find(where)
    if found is None or not (found.text or "").strip():
        raise DataError(f"{place}: has no {where}; a truncated or foreign annotation")
    return str(found.text).strip()


def number(element: Element, where: str, place: Path) -> float:
    """Read a finite number of a child."""
    return float(numbers(element, where, place)[0])


def numbers(element: Element, where: str, place: Path) -> Floats:
    """Return numbers in a child, (N,), N >= 1; as many as its ``count`` says."""
    content = text(element, where, place).split()
    try:
        found = np.asarray(content, np.float64)
    except ValueError:
        raise DataError(f"{place}: {where} holds {content[0]!r}, ...; not numbers") from None
    count = element.find(where).get("count")  # type: ignore[union-attr]
    if count is not None and int(count) != len(found):
        raise DataError(f"{place}: {where} says {count} numbers and holds {len(found)}")
    if not np.isfinite(found).all():
        raise DataError(f"{place}: {where} holds a number that is not finite")
    return found


def open_measurement(rasterio: Any, product: Product, channel: PolarisationFiles) -> Any:
    """Open the measurement; DataError where its size is another or its end is missing.

    TIFF keeps where each strip lies: the furthest one has to end within the file. Nothing is
    decoded for that.
    """
    path = channel.measurement
    try:
        dataset = open_dataset(path)
    except rasterio.errors.RasterioIOError as error:
        raise read_failure(str(path), error) from None
    if (dataset.height, dataset.width) != (product.lines, product.samples):
        raise DataError(
            f"{path}: is {dataset.height} × {dataset.width}; its annotation says "
            f"{product.lines} × {product.samples} lines × samples"
        )
    height, width = dataset.block_shapes[0]
    size = path.stat().st_size
    for row in range(-(-product.lines // height)):
        for col in range(-(-product.samples // width)):
            where = f"{col}_{row}"
            start = dataset.get_tag_item(f"BLOCK_OFFSET_{where}", "TIFF", bidx=1)
            length = dataset.get_tag_item(f"BLOCK_SIZE_{where}", "TIFF", bidx=1)
            if start is not None and int(start) + int(length or 0) > size:
                raise DataError(
                    f"{path}: ends at byte {size}, line {row * height} lies beyond; "
                    "a truncated download?"
                )
    return dataset


def _between(knots: Floats, where: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return the index of the knot below and the share of the way to the next.

    Clamped at the ends.
    """
    if len(knots) == 1:
        return np.zeros(np.shape(where), np.intp), np.zeros(np.shape(where))
    inside = np.clip(np.where(np.isfinite(where), where, knots[0]), knots[0], knots[-1])
    index = np.clip(np.searchsorted(knots, inside, "right") - 1, 0, len(knots) - 2)
    return index, (inside - knots[index]) / (knots[index + 1] - knots[index])


def _channels(path: Path) -> dict[str, PolarisationFiles]:
    """Return the polarisations with a measurement or annotation; each then needs all files."""
    found: dict[str, str] = {}
    for file in [*sorted(path.glob("measurement/*.tif*")), *sorted(path.glob("annotation/*.xml"))]:
        parts = file.stem.split("-")
        if len(parts) > 3 and parts[3] in ("vv", "vh", "hh", "hv"):
            found.setdefault(parts[3], file.stem)
    if not found:
        raise DataError(f"{path}: holds no measurement and no annotation; a truncated download?")
    channels = {}
    for polarisation, stem in found.items():
        measurement = next(path.glob(f"measurement/{stem}.tif*"), None)
        files = PolarisationFiles(
            measurement or path / "measurement" / f"{stem}.tiff",
            path / "annotation" / f"{stem}.xml",
            path / "annotation" / "calibration" / f"calibration-{stem}.xml",
            path / "annotation" / "calibration" / f"noise-{stem}.xml",
        )
        for file in (files.measurement, files.annotation, files.calibration, files.noise):
            if not file.is_file():
                raise DataError(f"{file}: is missing; download the product again")
        channels[polarisation] = files
    return channels


def _mismatch(product: Product, channel: PolarisationFiles, manifest: Element) -> str:
    """Return why the measurement may not be the one the product was made with; "" when it is."""
    rasterio = rasterio_or_reason()
    with open_measurement(rasterio, product, channel) as dataset:
        said = dataset.tags().get("TIFFTAG_IMAGEDESCRIPTION", "")
    if said.startswith(SIMULATED):
        return str(said)
    for entry in manifest.iter("byteStream"):
        location = entry.find("fileLocation")
        href = "" if location is None else location.get("href", "")
        size = channel.measurement.stat().st_size
        if Path(href).name == channel.measurement.name and int(entry.get("size", size)) != size:
            return (
                f"SIMULATED or altered: {channel.measurement.name} has {size} bytes, "
                f"its manifest says {entry.get('size')}"
            )
    return ""


def _relative_orbit(root: Element, manifest: Element, place: Path) -> int:
    """Read the manifest, else compute it from the absolute number, by mission.

    The rule is :func:`kgsm_infer.scenes.orbits.relative_orbit`.
    """
    for element in manifest.iter():
        if element.tag.endswith("relativeOrbitNumber") and element.get("type") == "start":
            return int(element.text or 0)
    found = relative_orbit(
        text(root, "adsHeader/missionId", place),
        int(text(root, "adsHeader/absoluteOrbitNumber", place)),
    )
    if found is None:
        raise DataError(f"{place.parents[1]}: manifest.safe names no relative orbit")
    return found


def _ipf(manifest: Element) -> str:
    for element in manifest.iter():
        if element.tag.endswith("software") and "IPF" in element.get("name", ""):
            return element.get("version", "")
    return ""


def _tie_points(root: Element, place: Path) -> TiePoints:
    points = _list(root, "geolocationGrid/geolocationGridPointList", place)
    lines = np.asarray([number(point, "line", place) for point in points])
    pixels = np.asarray([number(point, "pixel", place) for point in points])
    rows, i = np.unique(lines, return_inverse=True)
    columns, j = np.unique(pixels, return_inverse=True)
    if len(rows) * len(columns) != len(points):
        raise DataError(f"{place}: its {len(points)} geolocation grid points do not form a grid")

    def grid(name: str) -> Grid2D:
        values = np.empty((len(rows), len(columns)))
        values[i, j] = [number(point, name, place) for point in points]
        return Grid2D(rows, columns, values)

    return TiePoints(grid("longitude"), grid("latitude"), grid("height"), grid("incidenceAngle"))


def _list(root: Element, where: str, place: Path) -> list[Element]:
    found = list(root.find(where) or ())
    if not found:
        raise DataError(f"{place}: has no {where}; a truncated or foreign annotation")
    return found


def _table(rows: list[Floats], name: str, place: Path) -> Floats:
    if len({len(row) for row in rows}) != 1:
        raise DataError(f"{place}: {name} differ in length")
    return np.asarray(rows)


def _time(content: str, place: Path) -> np.datetime64:
    try:
        return np.datetime64(content, "ns")
    except ValueError:
        raise DataError(f"{place}: {content!r} is not a time") from None
