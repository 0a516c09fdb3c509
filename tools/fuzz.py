"""Damaged files against every reader: one line and an exit code, or the same numbers; else a fault.

    python tools/fuzz.py [--count 10000] [--seed 0] [--kind cards ...]       (make fuzz)

Each kind of file is made once, whole, and then damaged ``count`` times: bits flipped, spans cut,
doubled, swapped or overwritten, and values replaced by those that break readers. A reader may
refuse (a KgsmError, which the commands tell in one line) or read it. A fault is any other
exception, a crash, more than SECONDS for one file, or another number: a model or a part that is
read must give the numbers it gave, what comes of a table must be a moisture or missing with a
reason, and of the kinds of tools/fuzz_files.py what an independent reading has. Each kind runs in a
separate process, limited in memory; one that dies is a fault, and the next file goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import multiprocessing
import resource
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kgsm_infer.base import flags
from kgsm_infer.base.errors import KgsmError, ModelError
from kgsm_infer.model.card import card_from_json
from kgsm_infer.model.model import load
from kgsm_infer.scenes.manifest import read_scene
from kgsm_infer.scenes.outlines import read_outlines
from kgsm_infer.tables.table import read_table
from kgsm_train.config import read_config
from kgsm_train.evaluation.parts import Learnt, Part, read_part, write_part
from kgsm_train.evaluation.splits import Split
from kgsm_train.fit import fit_and_export
from kgsm_train.sources.simulate import Twin, write_twin

SECONDS = 20
#: Binary files with offsets in them.
IN_PLACE = (".tif", ".nc")
#: Address space of a process, bytes.
MEMORY = 8 << 30
#: What readers stumble over, in place of a value.
NASTY = (
    b"NaN", b"-9999", b"1e400", b"1" + b"0" * 400, b"null", b"true", b'""', b"{}", b"[]",
    b"[" * 3000, b'{"a":' * 300, b"-1", b"0", b"2024-13-45", b"0001-01-01T00:00+10:00",
    b"\xff\xfe", b"\x00", b"\x1b[2J", b"=1+1", b"-1_5", b"\xe2\x88\x921", b"/vsicurl/http://x",
    b"1.7976931348623157e308", b"9007199254740993", b'"' * 3, b"x" * 5000,
)  # fmt: skip

#: In place of a value of a JSON document.
ODD_VALUES = (
    None, True, -1, 0, 1, 2, 7, 1.5, -1e308, float("nan"), float("inf"), 10**30, "", "x", "1",
    "NaN",
    "2024-13-45", "0001-01-01T00:00:00Z", "2024-03-04T23:30:00-05:00", "<i8", ">f4", "|O", "int16",
    "\u0000", "a" * 3000, [], {}, [[]], [1], [0, 0], {"a": 1}, "../../x", "http://localhost:1/x",
)  # fmt: skip

CONFIG = """
[data]
table = "twin.csv"
licence = "simulated"
[inputs]
steps = 3
features = ["doy_sin"]
statics = ["clay"]
[wcm]
angle_rule = "column"
[network]
hidden = 4
members = 2
[training]
epochs = 2
batch = 64
[crossval]
folds = 2
models = ["mean", "lstm", "kg-lstm"]
"""
SCENE = """
title = "made"
[layers.vh_db]
files = "vh_*.tif"
[layers.ndvi]
files = "nd_*.tif"
scale = 1e-4
offset = 0.0
[layers.angle_deg]
value = 38.0
"""
OUTLINES = """{"type": "FeatureCollection", "features": [
{"type": "Feature", "id": "1", "properties": {"name": "north", "area": 12.5}, "geometry":
{"type": "Polygon", "coordinates": [[[149.0, -35.0], [149.01, -35.0], [149.01, -35.01], [149.0, -35.0]]]}},
{"type": "Feature", "id": "2", "properties": {"name": "south"}, "geometry":
{"type": "MultiPolygon", "coordinates": [[[[149.1, -35.0], [149.2, -35.0], [149.2, -35.1], [149.1, -35.0]]]]}}]}
"""  # noqa: E501

Check = Callable[[Path], None]


class Fault(Exception):
    """A reader that did what it must not."""


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage the content at one to three places."""
    for _ in range(int(rng.integers(1, 4))):
        content = _wounded(content, rng)
    return content


def overwritten(content: bytes, rng: np.random.Generator) -> bytes:
    """Change one to four bytes or bits in place, so that offsets in the file still hold."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(changed)))
        if rng.random() < 0.5:
            changed[at] ^= 1 << int(rng.integers(8))
        else:
            changed[at] = int(rng.choice([0, 1, 2, 0x7F, 0x80, 0xFF, int(rng.integers(256))]))
    return bytes(changed)


def with_other_values(content: bytes, rng: np.random.Generator) -> bytes:
    """Replace one or two values of a JSON document by one of another kind, or remove them."""
    document = json.loads(content)
    for _ in range(int(rng.integers(1, 3))):
        places: list[tuple[Any, Any]] = []
        waiting = [document]
        while waiting:
            one = waiting.pop()
            keys = [*one] if isinstance(one, dict) else [*range(len(one))]
            places += [(one, key) for key in keys]
            waiting += [one[key] for key in keys if isinstance(one[key], (dict, list))]
        if not places:
            break
        one, key = places[int(rng.integers(len(places)))]
        if rng.random() < 0.2:
            del one[key]
        else:
            one[key] = copy.deepcopy(ODD_VALUES[int(rng.integers(len(ODD_VALUES)))])
    return json.dumps(document).encode()


def _wounded(content: bytes, rng: np.random.Generator) -> bytes:
    if not content:
        return NASTY[int(rng.integers(len(NASTY)))]
    at, size = int(rng.integers(len(content))), int(rng.integers(1, 40))
    kind = int(rng.integers(8))
    if kind == 0:  # one bit
        return content[:at] + bytes([content[at] ^ 1 << int(rng.integers(8))]) + content[at + 1 :]
    if kind == 1:
        return content[:at]
    if kind == 2:
        return content[:at] + content[at + size :]
    if kind == 3:
        return content[: at + size] + content[at:]
    if kind == 4:
        return content[:at] + rng.bytes(size) + content[at + size :]
    if kind == 5:  # two spans change places
        other = int(rng.integers(len(content)))
        a, b = sorted((at, other))
        return content[:a] + content[b : b + size] + content[a:b] + content[b + size :]
    nasty = NASTY[int(rng.integers(len(NASTY)))]
    if kind == 6:
        return content[:at] + nasty + content[at:]
    start, end = at, at  # the value at this position
    while start > 0 and content[start - 1 : start] not in b',:[{ \n="':
        start -= 1
    while end < len(content) and content[end : end + 1] not in b',:]} \n="':
        end += 1
    return content[:start] + nasty + content[end:]


def sound(values: Any, what: str) -> None:
    """Raise Fault where numbers are infinite."""
    if np.isinf(np.asarray(values, np.float64)).any():
        raise Fault(f"{what} is infinite")


def kinds(folder: Path) -> Iterator[tuple[str, str, bytes, Check]]:
    """Yield name, suffix, an intact file, and the check of a damaged one."""
    write_twin(folder / "twin.csv", Twin(sites=4, years=1, seed=1))
    (folder / "c.toml").write_text(CONFIG)
    fit_and_export(read_config(folder / "c.toml"), folder)
    core = (folder / "model.core.onnx").read_bytes()
    model = load(core, engine="native")
    table = read_table(folder / "twin.csv", features=model.table_features())
    expected = model.predict(table)

    def models(path: Path) -> None:
        got = load(path, engine="native").predict(table)
        if not all(
            np.array_equal(a, b, equal_nan=True) for a, b in zip(got, expected, strict=True)
        ):
            raise Fault("a damaged model gives other numbers")

    yield "models", ".core.onnx", core, models
    text = model.card.to_json().encode()
    at = core.index(text)

    def cards(path: Path) -> None:
        card = path.read_bytes()
        if card != text:  # in its file the seal refuses it, whatever it says
            with contextlib.suppress(ModelError):
                load(core[:at] + card[: len(text)].ljust(len(text)) + core[at + len(text) :])
                raise Fault("a model with another card is read")
        card_from_json(card.decode(errors="replace"), path.name)

    yield "cards", ".json", text, cards

    def tables(path: Path) -> None:
        read = read_table(path, features=model.table_features())
        for name, values in read.numbers.items():
            sound(values, name)
        result = model.predict(read)
        number = (result.flags & flags.NO_NUMBER) == 0
        if not np.array_equal(np.isfinite(result.sm), number):
            raise Fault("a value despite a flag without a value, or no value and no such flag")
        if not ((result.sm[number] >= 0) & (result.sm[number] <= 1)).all():
            raise Fault("a number outside 0..1")

    lines = (folder / "twin.csv").read_bytes().splitlines(keepends=True)
    yield "tables", ".csv", b"".join(lines[:40]), tables

    def outlines(path: Path) -> None:
        read_outlines(path, None)

    yield "GeoJSON", ".geojson", OUTLINES.encode(), outlines
    for layer in ("vh", "nd"):  # a manifest names files; here it is the manifest that is read
        (folder / f"{layer}_2024-05-01.tif").touch()
    yield "manifests", ".toml", SCENE.encode(), lambda path: (read_scene(path), None)[1]
    yield "configs", ".toml", CONFIG.encode(), lambda path: (read_config(path), None)[1]
    yield from _parts(folder)
    from fuzz_files import file_kinds

    yield from file_kinds(folder / "files")


def _parts(folder: Path) -> Iterator[tuple[str, str, bytes, Check]]:
    split, index = Split(0), np.arange(30)
    sm = np.linspace(0.1, 0.4, 30, dtype=np.float32)
    write_part(folder, Part("lstm", split, index, sm, Learnt(), 1.5), "key")
    (path,) = folder.glob("*.npz")

    def parts(damaged_part: Path) -> None:
        path.write_bytes(damaged_part.read_bytes())
        part = read_part(folder, "lstm", split, "key", index)
        if part is not None and not np.array_equal(part.sm, sm):
            raise Fault("a damaged part gives other numbers")

    yield "parts", ".npz", path.read_bytes(), parts


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise Fault where it takes longer."""

    def late(*_: object) -> None:
        raise Fault(f"takes more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Attack:
    """One kind of file, its damage and where it is written."""

    name: str
    suffix: str
    whole: bytes
    check: Check
    count: int
    seed: int
    folder: Path

    def run(self) -> Counter[str]:
        """Count refusals, reads and faults of a reader; print and store the faults."""
        told, start = Counter[str](), 0
        while start < self.count:
            results = multiprocessing.get_context("fork").SimpleQueue()
            child = multiprocessing.get_context("fork").Process(
                target=self._work, args=(start, results)
            )
            child.start()
            done = start
            while True:  # the last message is None; a dead process sends none
                while results.empty() and child.is_alive():
                    child.join(0.01)
                if results.empty():
                    break
                outcome = results.get()
                if outcome is None:
                    break
                told[outcome[0]] += 1
                if outcome[0] == "faults":
                    self._report(done, outcome[1], told["faults"])
                done += 1
            child.join()
            if not child.exitcode:
                start = done
            else:
                told["faults"] += 1
                # the cause may lie in a file before it: the count says from where to replay
                ended = f"the process ended with {child.exitcode} after {done - start} files"
                self._report(done, ended, count=0)
                start = done + 1
        return told

    def _damaged(self, number: int) -> bytes:
        rng = np.random.default_rng([self.seed, number])
        if self.suffix in IN_PLACE and rng.random() < 0.7:  # other damage is nearly always refused
            return overwritten(self.whole, rng)
        if self.suffix == ".json" and rng.random() < 0.7:
            return with_other_values(self.whole, rng)
        return damaged(self.whole, rng)

    def _work(self, start: int, results: Any) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        path = self.folder / f"damaged{self.suffix}"
        path.write_bytes(self.whole)
        self.check(path)  # what is whole is read
        for number in range(start, self.count):
            path.write_bytes(self._damaged(number))
            try:
                with limited(SECONDS), contextlib.redirect_stderr(io.StringIO()):
                    self.check(path)
                results.put(("read", ""))
            except KgsmError as error:
                text = str(error)
                good = text.isprintable() and len(text) < 2000
                results.put(("refused", "") if good else ("faults", f"says {text[:200]!r}"))
            except Fault as error:
                results.put(("faults", str(error)))
            except BaseException as error:  # noqa: BLE001  this is what is looked for
                results.put(("faults", f"{type(error).__name__}: {error}"))
        results.put(None)

    def _report(self, number: int, fault: str, count: int) -> None:
        if count <= 5:
            kept = Path(f"fuzz-{self.name.replace(' ', '-')}-{self.seed}-{number}{self.suffix}")
            kept.write_bytes(self._damaged(number))
            print(f"{self.name} {number}: {fault[:300]} ({kept})", flush=True)


def main() -> int:
    """Return 0 where no reader was at fault."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--count", type=int, default=10_000, help="damaged files of each kind")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--kind", nargs="*", default=[], help="only these kinds")
    asked = options.parse_args()
    warnings.simplefilter("ignore")
    faults = 0
    with tempfile.TemporaryDirectory() as name:
        for kind, suffix, whole, check in kinds(Path(name)):
            if asked.kind and kind not in asked.kind:
                continue
            told = Attack(kind, suffix, whole, check, asked.count, asked.seed, Path(name)).run()
            faults += told["faults"]
            print(
                f"{kind}: {asked.count} damaged, {told['refused']} refused, "
                f"{told['read']} read, {told['faults']} faults",
                flush=True,
            )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
