"""Keys of stored results change with code, inputs and settings, and with nothing else."""

from __future__ import annotations

import os
import sys

import pytest

from kgsm_infer.base.fingerprint import code_digest, content_digest, file_stamp, fingerprint


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package ``aroom`` of two modules, importable."""
    home = tmp_path / "aroom"
    (home / "inner").mkdir(parents=True)
    for name in ("__init__.py", "one.py", "inner/__init__.py", "inner/two.py"):
        (home / name).write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield home
    for name in [name for name in sys.modules if name.partition(".")[0] == "aroom"]:
        del sys.modules[name]


def digest(*rooms):
    code_digest.cache_clear()
    return code_digest(*rooms)


@pytest.mark.parametrize(
    ("name", "counts"),
    [("one.py", True), ("inner/two.py", True), ("new.py", True), ("core.abi3.so", True),
     ("notes.txt", False), ("one.pyc", False)],
)  # fmt: skip
def test_the_code_of_a_room_counts_and_nothing_else_in_its_folder(package, name, counts):
    before = digest("aroom")
    (package / name).write_text("x = 2\n")
    assert (digest("aroom") != before) == counts


def test_only_the_rooms_named_count(package):
    before = digest("aroom.one"), digest("aroom.inner")
    (package / "inner" / "two.py").write_text("x = 2\n")
    assert digest("aroom.one") == before[0]
    assert digest("aroom.inner") != before[1]
    with pytest.raises(ModuleNotFoundError, match=r"no module aroom\.none"):
        digest("aroom.none")


def test_a_changed_file_or_folder_has_another_stamp(tmp_path):
    path = tmp_path / "a.zarr" / "0"
    path.parent.mkdir()
    path.write_bytes(b"12")
    os.utime(path, ns=(1, 1))
    stamps = {tuple(file_stamp(path)), tuple(file_stamp(path.parent))}
    assert file_stamp(path) == [2, 1] and file_stamp(path.parent) == [1, 2, 1]
    os.utime(path, ns=(2, 2))
    assert tuple(file_stamp(path)) not in stamps and tuple(file_stamp(path.parent)) not in stamps
    assert file_stamp(tmp_path / "none") == []
    assert content_digest(path) == (
        "6b51d431df5d7f141cbececcf79edf3dd861c3b4069f0b11661a3eefacbba918"  # sha256sum
    )


def test_settings_count_by_value():
    assert fingerprint("a", 1) != fingerprint("a", 1.5) != fingerprint(["a", 1.5])
    with pytest.raises(TypeError):
        fingerprint(object())
