"""Unpack Debian's Python for 64-bit ARM into a folder, to run wheels of that processor.

    python tools/aarch64_python.py FOLDER
    qemu-aarch64 -L FOLDER FOLDER/usr/bin/python3.11

Needs ``dpkg-deb`` and Debian's mirror. Only the packages below are fetched, about 10 MB.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

MIRROR = "http://deb.debian.org/debian"
INDEX = f"{MIRROR}/dists/bookworm/main/binary-arm64/Packages.xz"
PACKAGES = {
    "libbz2-1.0",
    "libc6",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libssl3",
    "libstdc++6",
    "libuuid1",
    "python3.11-minimal",
    "zlib1g",
}


def fetch(address: str) -> bytes:
    """Download a file of the mirror."""
    with urllib.request.urlopen(address, timeout=60) as answer:
        content: bytes = answer.read()
    return content


def unpack_python(folder: Path) -> Path:
    """Unpack the packages into ``folder``; return the path of its Python.

    Raises OSError without the mirror and ValueError if a file has another digest than the index.
    """
    for entry in lzma.decompress(fetch(INDEX)).decode().split("\n\n"):
        fields = dict(re.findall(r"^([\w-]+): (.*)$", entry, re.M))
        if fields.get("Package") not in PACKAGES:
            continue
        content = fetch(f"{MIRROR}/{fields['Filename']}")
        if hashlib.sha256(content).hexdigest() != fields["SHA256"]:
            raise ValueError(f"{fields['Filename']}: its SHA-256 is not that of the index")
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "package.deb"
        file.write_bytes(content)
        subprocess.run(["dpkg-deb", "-x", file, folder], check=True)
        file.unlink()
    return folder / "usr/bin/python3.11"


if __name__ == "__main__":
    print(unpack_python(Path(sys.argv[1])))
