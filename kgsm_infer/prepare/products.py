"""Find the bands of optical products in folders: product, day, tile or area, and files."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from xml.etree import ElementTree

from ..base.errors import DataError
from ..scenes.layers import baseline_in, date_in
from .reflectance import PRODUCTS, Optical

_LANDSAT = re.compile(
    r"(L[CET]0([45789])_L2S[PR]_\d{6}_(\d{8})_\d{8}_02_T[12])_(?:SR_B(\d)|QA_PIXEL)$"
)
_NBAR = re.compile(
    r"ga_ls([5789])[cet]_(nbart?|oa)_([\d-]+)_(\d{6})_(\d{4}-\d{2}-\d{2})_(\w*?)_?"
    r"(?:band(\d\d)|fmask)$"
)
_S2_BAND = re.compile(r"(^|.*_)(B02|B03|B04|B08|B11|B12|SCL)(?:_\d0m)?$")
_S2_NAME = re.compile(r"S2[A-D]_MSIL2A_(\d{8})T\d{6}_")
_S2_SENSED = re.compile(r"_V(\d{8})T\d{6}_")
_S2_TILE = re.compile(r"(?:^|_)T(\d{2}[A-Z]{3})(?=_|$)")
_AREA = re.compile(r"aid\d{4,}")
_MODIS = re.compile(
    r"MCD43A[24]\.(\d{3})_(Nadir_Reflectance_Band(\d)|BRDF_Albedo_Band_Mandatory_Quality_Band(\d)|"
    r"Snow_BRDF_Albedo)_doy(\d{4})(\d{3})"
)
_OLI = {"2": "blue", "3": "green", "4": "red", "5": "nir", "6": "swir1", "7": "swir2"}
_TM = {"1": "blue", "2": "green", "3": "red", "4": "nir", "5": "swir1", "7": "swir2"}
_MSI = {
    "B02": "blue",
    "B03": "green",
    "B04": "red",
    "B08": "nir",
    "B11": "swir1",
    "B12": "swir2",
    "SCL": "mask",
}
_MODIS_BANDS = {
    "1": "red",
    "2": "nir",
    "3": "blue",
    "4": "green",
    "5": "nir2",
    "6": "swir1",
    "7": "swir2",
}
_RASTERS = (".tif", ".tiff", ".jp2")
_NO_PRODUCT = "of no known product by its name"
_LANDSAT_1 = "is Landsat Level 1, not surface reflectance; Level 2 (L2SP, L2SR) is read"
_SENTINEL2_1 = "is Sentinel-2 Level 1C, of the top of the atmosphere; Level 2A is read"
_LEVEL_1 = re.compile(r"L[CETOM]0\d_L1[A-Z]{2}_")
_HDF = (
    "is HDF, which rasterio's wheels cannot read; download it as GeoTIFF (AppEEARS), or convert it "
    "with gdal_translate"
)
#: Why files of other types are not read, by the end of their name.
_OTHERS = {
    **dict.fromkeys((".hdf", ".h5"), _HDF),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".gz"), "is an archive; unpack it first"),
    **dict.fromkeys((".vrt", ".img", ".nc"), "is not a GeoTIFF or JPEG 2000"),
}


@dataclass(frozen=True)
class OpticalImage:
    """One image. files: by band (``red``, ``nir``, …), ``mask`` and, of MODIS, ``snow``.

    add: what is added to stored numbers (Sentinel-2's BOA_ADD_OFFSET); name: for people.
    scene: tile, path and row or area, and time, as far as they are known.  version: of its
    processing, the greatest is the newest.  processed: time of the processing.
    """

    product: Optical
    day: str
    name: str
    files: Mapping[str, Path]
    add: float = 0.0
    scene: str = ""
    version: tuple[str, ...] = ()
    processed: str = ""

    def is_older_than(self, other: OpticalImage) -> bool:
        """Return True for an older version of what the other shows."""
        return bool(self.scene) and self.scene == other.scene and self.version < other.version


@dataclass(frozen=True)
class FoundImages:
    """Images found in folders, by product and day.  left_out: name of an image, and why."""

    images: tuple[OpticalImage, ...]
    left_out: Mapping[str, str]


def find_products(paths: Sequence[str | Path], boa_offset: float | None = None) -> FoundImages:
    """Find the complete images in some folders; incomplete ones are left out with the reason.

    boa_offset: of Sentinel-2 rasters that do not state their processing baseline; 0 where the
    archive has applied it. DataError for a folder without an image.
    """
    images: list[OpticalImage] = []
    left_out: dict[str, str] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise DataError(f"{path}: not a folder; name the folder of a product")
        found = _in_folder(path, boa_offset)
        left_out |= found.left_out
        if not found.images:
            if found.left_out:
                name, why = next(iter(found.left_out.items()))
                raise DataError(f"{path}: holds no complete image; {name}: {why}")
            raise DataError(
                f"{path}: no Landsat Collection 2 (…_SR_B4.TIF), Landsat NBAR (ga_ls…_band04.tif), "
                "Sentinel-2 L2A (B04, B08, SCL) or MCD43A4 (…Nadir_Reflectance_Band1_doy….tif) "
                "in it"
            )
        images += found.images
    images.sort(key=lambda item: item.name)
    images.sort(key=lambda item: (item.version, item.processed), reverse=True)
    images.sort(key=lambda item: (item.product.name, item.day))
    count = Counter(image.name for image in images)
    images = [
        replace(image, name=f"{image.name} in {image.files['red'].parent}")
        if count[image.name] > 1
        else image
        for image in images
    ]
    return FoundImages(tuple(images), left_out)


@dataclass(frozen=True)
class _Key:
    """Identity of an image. place: tile, area, or the folder of rasters without either.

    scene, version: as of :class:`OpticalImage`.
    """

    product: str
    day: str
    place: str
    name: str
    scene: str = ""
    version: tuple[str, ...] = ()


@dataclass(frozen=True)
class _BandFile:
    """A file of an image. series: what the names of its bands have in common.

    root: folder of a Sentinel-2 image.
    """

    key: _Key
    band: str
    file: Path
    series: str = ""
    root: Path | None = None


def _in_folder(folder: Path, boa_offset: float | None) -> FoundImages:
    groups: dict[_Key, list[_BandFile]] = {}
    left_out: dict[str, str] = {}
    unknown: dict[tuple[Path, str], list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        found = _band_file(file, folder)
        if isinstance(found, _BandFile):
            groups.setdefault(found.key, []).append(found)
        elif found in (_NO_PRODUCT, _LANDSAT_1, _SENTINEL2_1):
            unknown.setdefault((file.parent, found), []).append(file)
        elif found:
            left_out[str(file.relative_to(folder))] = found
    images = []
    for key, title, files in _one_series_each(groups):
        missing = [band for band in ("red", "nir", "mask") if band not in files]
        if missing:
            left_out[title] = f"has no {' and no '.join(missing)} band; was it downloaded?"
            continue
        image = OpticalImage(
            PRODUCTS[key.product], key.day, title, files, 0.0, key.scene, key.version
        )
        root = groups[key][0].root
        if root is not None:
            try:
                image = _of_sentinel2(image, root, boa_offset)
            except DataError as error:
                left_out[title] = str(error)
                continue
        images.append(image)
    # beside an image lie its other bands
    read = {item.file.parent for files in groups.values() for item in files}
    for (place, why), others in unknown.items():
        in_safe = any(parent.suffix == ".SAFE" for parent in others[0].parents)
        if why == _NO_PRODUCT and (place in read or in_safe):
            continue
        name = str(others[0].relative_to(folder))
        more = f" and {len(others) - 1} more beside it" if len(others) > 1 else ""
        left_out[name + more] = why
    return FoundImages(tuple(images), left_out)


def _band_file(file: Path, folder: Path) -> _BandFile | str:
    """Find the image that a file is of, or why it is not read; "" without a reason to name."""
    if file.suffix.lower() not in _RASTERS:
        return _OTHERS.get(file.suffix.lower(), "") if file.is_file() else ""
    if _LEVEL_1.match(file.stem):
        return _LANDSAT_1
    if any("_MSIL1C_" in part or "_MSI_L1C_" in part for part in file.parts):
        return _SENTINEL2_1
    if match := _LANDSAT.search(file.stem):
        return _of_landsat(match, file)
    if match := _NBAR.search(file.stem):
        return _of_nbar(match, file)
    if match := _MODIS.search(file.stem):
        return _of_modis(match, file, folder)
    if not (match := _S2_BAND.match(file.stem)):
        return _NO_PRODUCT
    root = _s2_root(file, folder)
    day = _s2_day(file, root)
    if day is None:
        return "no date in its name or its folders'"
    tile = _s2_tile(file, folder)
    name = " ".join(filter(None, (root.name, day, tile)))
    key = _Key("sentinel2", day, f"{root} {tile}", name)
    return _BandFile(key, _MSI[match[2]], file, match[1], root)


def _of_landsat(match: re.Match[str], file: Path) -> _BandFile:
    name, number, day, band = match.groups()
    bands = _OLI if number in "89" else _TM
    sensor, _, place, _, processed, collection, _ = name.split("_")
    scene = f"{sensor} {place} {day}"
    key = _Key("landsat", _dashed(day), "", name, scene, (collection, processed))
    return _BandFile(key, bands.get(band, "") if band else "mask", file)


def _of_nbar(match: re.Match[str], file: Path) -> _BandFile:
    number, series, version, place, day, maturity, band = match.groups()
    bands = _OLI if number in "89" else _TM
    scene = f"ga_ls{number} {place} {day}"
    numbers = tuple(part.zfill(3) for part in version.split("-"))
    name = " ".join(filter(None, (scene, version, maturity)))
    key = _Key("nbar", day, place, name, scene, (*numbers, str(maturity == "final")))
    return _BandFile(key, bands.get(band.lstrip("0"), "") if band else "mask", file, series)


def _of_modis(match: re.Match[str], file: Path, folder: Path) -> _BandFile:
    version, what, band, quality, year, doy = match.groups()
    day = str(date(int(year), 1, 1) + timedelta(int(doy) - 1))
    kind = "snow" if what.startswith("Snow") else _MODIS_BANDS.get(band or "", "")
    if quality in ("1", "2"):
        kind = "mask" if quality == "1" else "mask2"
    # AppEEARS numbers the areas of a request; another download lies in another folder
    area = _AREA.search(file.stem)
    place = " ".join(filter(None, (_beside(file, folder), area[0] if area else "")))
    scene = f"MCD43A4 {day} {place}".strip()
    return _BandFile(_Key("modis", day, place, f"{scene} {version}", scene, (version,)), kind, file)


def _one_series_each(
    groups: Mapping[_Key, Sequence[_BandFile]],
) -> Iterator[tuple[_Key, str, dict[str, Path]]]:
    """Yield each image with a title and its files by band; one place may hold several images.

    Files of one band under two series of names are of two images; bands under several names
    without such a band are of one. A mask of Digital Earth Australia serves both its series.
    """
    for key, found in groups.items():
        shared = [item for item in found if item.series == "oa"]
        own = [item for item in found if item.series != "oa"]
        series: dict[str, dict[str, Path]] = {}
        for item in own:
            # the finest of a SAFE's copies: 10 m before 20 m before 60 m
            series.setdefault(item.series, {}).setdefault(item.band, item.file)
        bands = Counter(band for files in series.values() for band in files if band)
        if max(bands.values(), default=0) <= 1:
            series = {"": {item.band: item.file for item in reversed(own)}}
        for name, files in series.items():
            whole = {**{item.band: item.file for item in shared}, **files}
            whole.pop("", None)
            yield key, f"{key.name} {name.strip('_')}" if len(series) > 1 else key.name, whole


def _beside(file: Path, folder: Path) -> str:
    """Return the subfolder a file lies in; empty at the top."""
    parent = file.parent.relative_to(folder)
    return "" if parent == Path() else str(parent)


def _s2_root(file: Path, folder: Path) -> Path:
    """Return the folder of a Sentinel-2 image: the SAFE, else the file's folder."""
    for parent in file.parents:
        if parent.suffix == ".SAFE":
            return parent
        if parent == folder:
            break
    return file.parent


def _s2_tile(file: Path, folder: Path) -> str:
    """Return the tile of a band, ``T55HDV``, from its name or its granule; empty where unknown."""
    for part in (file.stem, *file.relative_to(folder).parts[::-1]):
        if match := _S2_TILE.search(part):
            return f"T{match[1]}"
    return ""


def _s2_day(file: Path, root: Path) -> str | None:
    """Find the day a band was sensed: by the product's, granule's or file's name or metadata.

    Names of before December 2016 begin with the day of creation; V is the time of sensing.
    """
    for part in (root.name, file.stem, *file.parts[::-1]):
        for pattern in (_S2_NAME, _S2_SENSED):
            if match := pattern.search(part):
                return _dashed(match[1])
    for parent in file.parents:
        metadata = parent / "MTD_TL.xml"
        if metadata.is_file():
            with suppress(ElementTree.ParseError):
                sensed = ElementTree.parse(metadata).findtext(".//SENSING_TIME")
                if sensed:
                    return sensed.strip()[:10]
        if parent == root:
            break
    return _day_in([file.stem, root.name, *file.parts[::-1]])


def _s2_offset(root: Path, files: Mapping[str, Path], boa_offset: float | None) -> float:
    """Return BOA_ADD_OFFSET: stated, of the product's metadata, or by the baseline in its name."""
    if boa_offset is None:
        boa_offset = _stated_offset(root, PRODUCTS["sentinel2"])
    names = [root.name, *(file.stem for file in files.values()), *root.parts[::-1]]
    names += [part for file in files.values() for part in file.parts[::-1]]
    baseline = next((one for one in map(baseline_in, names) if one is not None), None)
    if boa_offset is None and baseline is not None:
        boa_offset = -1000.0 if baseline >= 400 else 0.0
    if boa_offset is None:
        raise DataError(
            f"{root}: does not state its processing baseline, on which the offset of reflectance "
            "depends; pass --boa-offset -1000 (from 2022-01-25, as ESA distributes them) or "
            "--boa-offset 0 (before, or where the archive has applied it)"
        )
    return boa_offset


def _of_sentinel2(image: OpticalImage, root: Path, boa_offset: float | None) -> OpticalImage:
    """Add the offset of a Sentinel-2 image, and what its names say of its scene and its version.

    Of one baseline the parts of a split tile cannot be told from versions, so all are used.
    """
    image = replace(image, add=_s2_offset(root, image.files, boa_offset))
    names = f"{root.name}/{image.files['red'].stem}"
    baseline, tile = baseline_in(names), _S2_TILE.search(names)
    stamps = re.findall(r"\d{8}T\d{6}", names)
    if baseline is None or tile is None or not stamps:
        return image
    return replace(
        image,
        scene=f"{tile[1]} {stamps[0]}",
        version=(f"{baseline:04d}",),
        processed=stamps[-1],
    )


def _stated_offset(root: Path, product: Optical) -> float | None:
    """Return BOA_ADD_OFFSET of the product's own metadata; 0 where an old one states none."""
    metadata = root / "MTD_MSIL2A.xml"
    if not metadata.is_file():
        return None
    try:
        tree = ElementTree.parse(metadata)
    except ElementTree.ParseError as error:
        raise DataError(f"{metadata}: not XML ({error}); a truncated download?") from None
    quantification = tree.findtext(".//BOA_QUANTIFICATION_VALUE", "10000")
    try:
        is_known = float(quantification) * product.scale == 1
        offsets = {float(item.text or "nan") for item in tree.iterfind(".//BOA_ADD_OFFSET")}
        is_damaged = not all(map(math.isfinite, offsets))
    except ValueError:
        is_damaged = True
    if is_damaged:
        raise DataError(f"{metadata}: its offsets are not numbers; a damaged download?")
    if not is_known:
        raise DataError(f"{metadata}: BOA_QUANTIFICATION_VALUE {quantification} is not 10000")
    if len(offsets) > 1:
        raise DataError(f"{metadata}: bands have different BOA_ADD_OFFSET, {sorted(offsets)}")
    return offsets.pop() if offsets else 0.0


def _day_in(names: Sequence[str]) -> str | None:
    for name in names:
        when = date_in(name)
        if when is not None:
            return str(when.astype("datetime64[D]"))
    return None


def _dashed(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"
