"""Quality flags: one list, and everything that repeats it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kgsm_infer.base import flags
from kgsm_infer.gateway.http.strings import CATALOGUE

ROOT = Path(__file__).parents[2]


def test_bits_are_those_of_every_file_written_so_far():
    """Files in use hold these bits: a flag is appended, never moved."""
    first = ("missing_input", "input_out_of_range", "soil_signal_lost", "dense_vegetation",
             "frozen_or_snow", "outside_domain", "short_history", "context_missing",
             "sm_clipped", "no_skill")  # fmt: skip
    assert flags.NAMES[: len(first)] == first
    for bit, name in enumerate(flags.NAMES):
        assert getattr(flags, name.upper()) == 1 << bit == flags.mask_of(name)
    assert flags.names(flags.NO_NUMBER) == (
        "missing_input;input_out_of_range;soil_signal_lost;frozen_or_snow"
    )
    assert len(flags.NAMES) <= 16, "masks are uint16"


def test_the_c_header_has_the_same_bits_and_withholds_the_same():
    header = (ROOT / "csrc/kgsm.h").read_text()
    enum = header[header.index("---- flags") :].partition("};")[0]
    found = re.findall(r"KGSM_(\w+) = (\d+),", enum)
    assert [(name.lower(), int(bit)) for name, bit in found] == [
        (name, 1 << bit) for bit, name in enumerate(flags.NAMES)
    ]
    withheld = re.findall(r"KGSM_(\w+)", enum.partition("KGSM_NO_NUMBER =")[2])
    assert [name.lower() for name in withheld] == [f.name for f in flags.FLAGS if f.withheld]


def test_the_core_has_the_same_bits():
    core = pytest.importorskip("kgsm_infer.kernels._core")
    assert {name: 1 << bit for bit, name in enumerate(flags.NAMES)} == core.FLAG_BITS
    assert core.NO_NUMBER == flags.NO_NUMBER


def test_the_readme_has_a_row_for_each_in_bit_order():
    rows = re.findall(
        r"^\| `(\w+)` \| (.+) \| (yes|no) \|$", (ROOT / "README.md").read_text(), re.M
    )
    found = [row for row in rows if row[0] in flags.NAMES]
    assert found == [
        (flag.name, flag.meaning, "no" if flag.withheld else "yes") for flag in flags.FLAGS
    ]


def test_the_javascript_example_has_the_names_in_bit_order():
    text = (ROOT / "examples/integrate/predict.mjs").read_text()
    array = text[text.index("const FLAGS") :].partition(";")[0]
    assert tuple(re.findall(r'"(\w+)"', array)) == flags.NAMES


def test_the_gateway_has_a_sentence_for_each():
    for language, texts in CATALOGUE.items():
        explained = {key.removeprefix("flag.") for key in texts if key.startswith("flag.")}
        assert set(flags.NAMES) <= explained, language
