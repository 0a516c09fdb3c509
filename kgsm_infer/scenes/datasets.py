"""Open each NetCDF file once in a process, whatever number of its variables and threads read it.

The NetCDF library (netCDF4 1.7.5 with HDF5 2.2) ends the process when a file that is open several
times is closed in another order than it was opened, and is then opened again. HDF5 is not safe in
threads either, and xarray's lock spares the inquiries it opens a file with.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any
from weakref import finalize

from ..base.extras import optional
from .classic_header import check_classic

#: Held while a NetCDF file is opened, read or closed.
_LIBRARY = RLock()


@contextmanager
def netcdf_library() -> Iterator[None]:
    """Hold the NetCDF library, for code that calls it by itself, such as a writer."""
    with _LIBRARY:
        yield


@dataclass
class _Shared:
    """An open file and the number of its users."""

    content: Any
    users: int = 0


#: Open files by identity.
_OPEN: dict[Hashable, _Shared] = {}


@dataclass
class Dataset:
    """One user of an open file, which is closed with its last user. Lost users count as closed.

    content: xarray Dataset, nothing decoded.
    """

    content: Any
    is_zarr: bool
    _release: Callable[[], object] = field(init=False, repr=False)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the NetCDF library; Zarr needs no lock."""
        with nullcontext() if self.is_zarr else _LIBRARY:
            yield

    def close(self) -> None:
        """Close the file with its last user; a second call does nothing."""
        self._release()


def _release(key: Hashable) -> None:
    """Count one user less of an open file, and close it with the last one."""
    with _LIBRARY:
        shared = _OPEN[key]
        shared.users -= 1
        if shared.users == 0:
            del _OPEN[key]
            shared.content.close()


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
        user = Dataset(opened(), is_zarr)
        user._release = finalize(user, user.content.close)
        return user
    check_classic(file)
    found = Path(file).stat()
    key = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, group)
    with _LIBRARY:
        if key not in _OPEN:
            _OPEN[key] = _Shared(opened())
        shared = _OPEN[key]
        shared.users += 1
        user = Dataset(shared.content, is_zarr)
        user._release = finalize(user, _release, key)
    return user
