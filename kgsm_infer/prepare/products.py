"""Finds the bands of optical products in folders: which product, which day, which files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from xml.etree import ElementTree

from ..base.errors import DataError
from .reflectance import PRODUCTS, Optical

_LANDSAT = re.compile(
    r"(L[CET]0([45789])_L2S[PR]_\d{6}_(\d{8})_\d{8}_02_T[12])_(?:SR_B(\d)|QA_PIXEL)$"
)
_NBAR = re.compile(
    r"ga_ls([5789])[cet]_(?:nbart?|oa)_[\d-]+_(\d{6})_(\d{4}-\d{2}-\d{2})_\w*?(?:band(\d\d)|fmask)$"
)
_S2_BAND = re.compile(r"(?:^|.*_)(B02|B03|B04|B08|B11|B12|SCL)(?:_\d0m)?$")
_S2_NAME = re.compile(r"S2[A-D]_MSIL2A_(\d{8})T\d{6}_N(\d{4})_")
_MODIS = re.compile(
    r"MCD43A[24]\.\d{3}_(Nadir_Reflectance_Band(\d)|BRDF_Albedo_Band_Mandatory_Quality_Band(\d)|"
    r"Snow_BRDF_Albedo)_doy(\d{4})(\d{3})"
)
_OLI = {"2": "blue", "3": "green", "4": "red", "5": "nir", "6": "swir1", "7": "swir2"}
_TM = {"1": "blue", "2": "green", "3": "red", "4": "nir", "5": "swir1", "7": "swir2"}
_MSI = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir", "B11": "swir1",
        "B12": "swir2", "SCL": "mask"}  # fmt: skip
_MODIS_BANDS = {"1": "red", "2": "nir", "3": "blue", "4": "green", "5": "nir2", "6": "swir1",
                "7": "swir2"}  # fmt: skip
_RASTERS = (".tif", ".tiff", ".jp2")


@dataclass(frozen=True)
class OpticalImage:
    """One image. files: by band (``red``, ``nir``, …), ``mask`` and, of MODIS, ``snow``.

    add: what is added to stored numbers (Sentinel-2's BOA_ADD_OFFSET); name: for people.
    """

    product: Optical
    day: str
    name: str
    files: Mapping[str, Path]
    add: float = 0.0


def find_products(
    paths: Sequence[str | Path], boa_offset: float | None = None
) -> list[OpticalImage]:
    """The acquisitions in some folders, by day; DataError for a folder without one.

    boa_offset: of Sentinel-2 rasters that do not say their processing baseline; 0 where the
    archive has applied it already.
    """
    found: list[OpticalImage] = []
    for path in map(Path, paths):
        if not path.is_dir():
            raise DataError(f"{path}: is no folder; name the folder of a product")
        here = list(_in_folder(path, boa_offset))
        if not here:
            if any(path.rglob("*.hdf")):
                raise DataError(
                    f"{path}: holds HDF4 files, which rasterio's wheels cannot read; download "
                    "them as GeoTIFF (AppEEARS), or convert them with gdal_translate"
                )
            raise DataError(
                f"{path}: no Landsat Collection 2 (…_SR_B4.TIF), Landsat NBAR (ga_ls…_band04.tif), "
                "Sentinel-2 L2A (B04, B08, SCL) or MCD43A4 (…Nadir_Reflectance_Band1_doy….tif) "
                "in it"
            )
        found += here
    for item in found:
        for band in ("red", "nir", "mask"):
            if band not in item.files:
                raise DataError(f"{item.name}: has no {band} band; was it downloaded?")
    return sorted(found, key=lambda item: (item.product.name, item.day, item.name))


def _in_folder(folder: Path, boa_offset: float | None) -> Iterator[OpticalImage]:
    groups: dict[tuple[str, str, str], dict[str, Path]] = {}
    sentinel2: dict[Path, dict[str, Path]] = {}
    for file in sorted(folder.rglob("*")):
        stem = file.stem
        if file.suffix.lower() not in _RASTERS:
            continue
        if match := _LANDSAT.search(stem):
            name, number, day, band = match.groups()
            bands = _OLI if number in "89" else _TM
            key = ("landsat", _dashed(day), name)
            groups.setdefault(key, {})[bands.get(band, "") if band else "mask"] = file
        elif match := _NBAR.search(stem):
            number, place, day, band = match.groups()
            bands = _OLI if number in "89" else _TM
            key = ("nbar", day, f"ga_ls{number} {place} {day}")
            groups.setdefault(key, {})[bands.get(band.lstrip("0"), "") if band else "mask"] = file
        elif match := _MODIS.search(stem):
            what, band, quality, year, doy = match.groups()
            day = str(date(int(year), 1, 1) + timedelta(int(doy) - 1))
            kind = "snow" if what.startswith("Snow") else _MODIS_BANDS.get(band or "", "")
            if quality in ("1", "2"):
                kind = "mask" if quality == "1" else "mask2"
            groups.setdefault(("modis", day, f"MCD43A4 {day}"), {})[kind] = file
        elif match := _S2_BAND.match(stem):
            # the finest of a SAFE's copies: 10 m before 20 m before 60 m
            bands_here = sentinel2.setdefault(_s2_root(file, folder), {})
            bands_here.setdefault(_MSI[match[1]], file)
    for (product, day, name), files in groups.items():
        files.pop("", None)
        yield OpticalImage(PRODUCTS[product], day, name, files)
    for root, files in sentinel2.items():
        yield _sentinel2(root, files, boa_offset)


def _s2_root(file: Path, folder: Path) -> Path:
    """The folder that stands for a Sentinel-2 image: the SAFE, else where the file lies."""
    for parent in file.parents:
        if parent.suffix == ".SAFE":
            return parent
        if parent == folder:
            break
    return file.parent


def _sentinel2(root: Path, files: Mapping[str, Path], boa_offset: float | None) -> OpticalImage:
    product = PRODUCTS["sentinel2"]
    names = [root.name, *(file.stem for file in files.values()), *root.parts[::-1]]
    named = next((match for match in map(_S2_NAME.search, names) if match), None)
    day = _dashed(named[1]) if named else _day_in(names)
    if day is None:
        raise DataError(f"{root}: no date in the names of its folder or files (2024-03-04)")
    if boa_offset is None:
        boa_offset = _stated_offset(root, product)
    if boa_offset is None and named:
        boa_offset = -1000.0 if int(named[2]) >= 400 and int(named[2]) != 9999 else 0.0
        if int(named[2]) == 9999:
            boa_offset = None
    if boa_offset is None:
        raise DataError(
            f"{root}: does not say its processing baseline, so nobody can say whether 1000 must "
            "be taken off; say --boa-offset -1000 (from 2022-01-25, as ESA distributes them) or "
            "--boa-offset 0 (before, or where the archive has done so)"
        )
    return OpticalImage(product, day, root.name, dict(files), boa_offset)


def _stated_offset(root: Path, product: Optical) -> float | None:
    """BOA_ADD_OFFSET of the product's own metadata; 0 where an old one states none."""
    metadata = root / "MTD_MSIL2A.xml"
    if not metadata.is_file():
        return None
    try:
        tree = ElementTree.parse(metadata)
    except ElementTree.ParseError as error:
        raise DataError(f"{metadata}: not XML ({error}); a truncated download?") from None
    quantification = tree.findtext(".//BOA_QUANTIFICATION_VALUE", "10000")
    if float(quantification) * product.scale != 1:
        raise DataError(f"{metadata}: BOA_QUANTIFICATION_VALUE {quantification} is not 10000")
    offsets = {float(item.text or "nan") for item in tree.iterfind(".//BOA_ADD_OFFSET")}
    if len(offsets) > 1:
        raise DataError(f"{metadata}: bands have different BOA_ADD_OFFSET, {sorted(offsets)}")
    return offsets.pop() if offsets else 0.0


def _day_in(names: Sequence[str]) -> str | None:
    from ..scenes.layers import date_in

    for name in names:
        when = date_in(name)
        if when is not None:
            return str(when.astype("datetime64[D]"))
    return None


def _dashed(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"
