"""Open each NetCDF file once in a process, whatever number of its variables and threads read it.

The NetCDF library (netCDF4 1.7.5 with HDF5 2.2) ends the process when a file that is open several
times is closed in another order than it was opened, and is then opened again. HDF5 is not safe in
threads either, and xarray's lock spares the inquiries it opens a file with.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

from ..base.extras import optional
from .classic_header import check_classic

#: Held while a NetCDF file is opened, read or closed.
_LIBRARY = RLock()


@dataclass
class _Shared:
    """An open file and the number of its users."""

    content: Any
    users: int = 0


#: Open files by identity.
_OPEN: dict[Hashable, _Shared] = {}


@dataclass
class Dataset:
    """One user of an open file. content: xarray Dataset, nothing decoded."""

    content: Any
    is_zarr: bool
    _key: Hashable | None = field(default=None, repr=False)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the NetCDF library; Zarr needs no lock."""
        with nullcontext() if self.is_zarr else _LIBRARY:
            yield

    def close(self) -> None:
        """Close the file with its last user; a second call does nothing."""
        if self._key is None:
            self.content.close()
            return
        with _LIBRARY:
            shared = _OPEN.get(self._key)
            if shared is None or shared.content is not self.content:
                return
            shared.users -= 1
            if shared.users == 0:
                del _OPEN[self._key]
                shared.content.close()
            self._key = _CLOSED


_CLOSED = object()


def opened_dataset(file: str, group: str = "") -> Dataset:
    """Open a NetCDF or Zarr file; an unchanged NetCDF file that is open is shared.

    group: of the file; "" for its root.  Errors are those of xarray, MissingError without it.
    """
    xarray = optional("xarray", what="NetCDF and Zarr")
    is_zarr = Path(file).is_dir()
    optional("zarr" if is_zarr else "netCDF4", what="NetCDF and Zarr")

    def opened() -> Any:
        return xarray.open_dataset(
            file,
            engine="zarr" if is_zarr else "netcdf4",
            group=group or None,
            decode_times=False,
            mask_and_scale=False,
            decode_coords=False,
            cache=False,
        )

    if is_zarr:
        return Dataset(opened(), is_zarr)
    check_classic(file)
    found = Path(file).stat()
    key = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, group)
    with _LIBRARY:
        if key not in _OPEN:
            _OPEN[key] = _Shared(opened())
        shared = _OPEN[key]
        shared.users += 1
    return Dataset(shared.content, is_zarr, key)
