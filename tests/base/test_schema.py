"""Settings and JSON read into dataclasses: types, constraints, messages, JSON Schema."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.base.schema import (
    Choices,
    Length,
    Option,
    Parse,
    Pattern,
    Range,
    Secret,
    SettingsFile,
    build,
    build_from_text,
    json_schema,
    parse_json,
    read,
)


@dataclass(frozen=True)
class Inner:
    rate: Annotated[float, Range(above=0, below=1)] = 0.5
    names: Annotated[tuple[str, ...], Length(1, 3)] = ("a",)


@dataclass(frozen=True)
class Everything:
    port: Annotated[int, Range(1, 65535)]
    engine: Annotated[str, Choices(("auto", "native"))] = "auto"
    days: Annotated[float, Range(1)] = 1.0
    nodata: Annotated[float | None, Option.ANY_FLOAT] = None
    band: Annotated[int, Range(1)] | str = 1
    shrink: Annotated[tuple[Annotated[float, Range(0, 1)], ...], Option.ONE_OR_MANY] = (1.0,)
    topic: Annotated[str, Pattern("[a-z]+", "lower-case letters")] = "a"
    pair: tuple[float, float] = (0.0, 1.0)
    files: str | tuple[str, ...] | Mapping[str, str] = ""
    table: Mapping[str, Annotated[int, Range(0)]] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    tls: bool = False
    anything: Any = None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "port is missing, expected a whole number from 1 to 65535"),
        ({"port": 70000}, "port is 70000, expected a whole number from 1 to 65535"),
        ({"port": 8086.7}, "port is 8086.7, expected a whole number from 1 to 65535"),
        ({"port": True}, "port is true, expected a whole number from 1 to 65535"),
        ({"port": "1"}, "port is 1, expected a whole number from 1 to 65535"),
        ({"port": 1, "engine": "warp"}, "engine is warp, expected one of auto, native"),
        ({"port": 1, "engine": "nativ"}, "one of auto, native; did you mean native?"),
        ({"port": 1, "days": math.inf}, "days is inf, expected a number of at least 1"),
        ({"port": 1, "days": math.nan}, "days is nan, expected a number of at least 1"),
        ({"port": 1, "band": 1.5}, "band is 1.5, expected a whole number of at least 1"),
        ({"port": 1, "band": []}, "band is a list, expected a whole number of at least 1 or text"),
        ({"port": 1, "shrink": 2}, "shrink[0] is 2, expected a number from 0 to 1"),
        ({"port": 1, "topic": "A"}, "topic is A, expected lower-case letters"),
        ({"port": 1, "pair": [1.0]}, "pair has 1 values, expected 2"),
        ({"port": 1, "pair": 3}, "pair is 3, expected a list of 2 values"),
        ({"port": 1, "files": 3}, "files is 3, expected text or a list of texts or a table"),
        ({"port": 1, "table": {"k": -1}}, "table.k is -1, expected a whole number of at least 0"),
        (
            {"port": 1, "inner": {"rate": 0}},
            "inner.rate is 0, expected a number above 0 and below 1",
        ),
        ({"port": 1, "inner": {"rat": 0}}, "inner.rat is not a known key; did you mean rate?"),
        ({"port": 1, "inner": {"names": []}}, "expected a list of texts of 1 to 3 items"),
        ({"port": 1, "inner": 3}, "inner is 3, expected a table"),
        ({"port": 1, "tls": 1}, "tls is 1, expected true or false"),
        ({"port": 1, "zzz": 1}, "zzz is not a known key; known: port, engine"),
        ({"port": 2**60}, "port is 1152921504606846976, which is too large"),
        ([], "the document is a list, expected a table"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(value, message):
    with pytest.raises(ValueError) as error:
        build(Everything, value)
    assert message in str(error.value)
    with pytest.raises(UsageError) as refused:
        read(Everything, value, "x.toml", UsageError)
    assert str(refused.value) == f"x.toml: {error.value}"


def test_what_is_allowed_is_read():
    found = build(
        Everything,
        {"port": 5, "nodata": math.nan, "band": "VH", "shrink": 1, "files": {"2024-01-01": "a"}},
    )
    assert math.isnan(found.nodata)
    assert (found.port, found.band, found.shrink) == (5, "VH", (1.0,))
    assert found.files == {"2024-01-01": "a"}
    assert build(Everything, {"port": 5, "files": ["a", "b"]}).files == ("a", "b")


def test_paths_start_at_the_folder():
    assert build(Path, "a/b.csv", folder=Path("/x")) == Path("/x/a/b.csv")
    assert build(Path, "/a/b.csv", folder=Path("/x")) == Path("/a/b.csv")
    for name in ("", " ", "a\0b"):
        with pytest.raises(ValueError, match="expected a path"):
            build(Path, name)


def test_a_converter_gives_its_reason():
    def even(value):
        if value % 2:
            raise ValueError("it is odd")
        return value // 2

    kind = Annotated[int, Parse(even, "an even number")]
    assert build(Mapping[str, kind], {"a": 4}) == {"a": 2}
    with pytest.raises(ValueError, match=r"n is 3, expected an even number \(it is odd\)"):
        build(kind, 3, "n")


@dataclass(frozen=True)
class WithSecret:
    user: str = ""
    password: Annotated[str | None, Secret()] = field(default=None, repr=False)


def test_a_secret_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("hidden\n")
    monkeypatch.setenv("KGSM_TEST", "of the environment")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for value, expected in (
        ({}, None),
        ({"password_file": "secret"}, "hidden"),
        ({"password_file": "{credentials}/secret"}, "hidden"),
        ({"password_env": "KGSM_TEST"}, "of the environment"),
    ):
        found = build(WithSecret, value, folder=tmp_path)
        assert found.password == expected
        assert "hidden" not in repr(found)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"password": "x"}, "password: secrets are not kept in this file; name a file in"),
        ({"password_file": "none"}, "password_file: none cannot be read"),
        ({"password_file": "empty"}, "password_file: empty is empty"),
        ({"password_env": "KGSM_NONE"}, "the environment variable KGSM_NONE is not set"),
        ({"password_file": "empty", "password_env": "X"}, "give one of them"),
        ({"password_file": 3}, "password_file is 3, expected text"),
    ],
)
def test_a_secret_that_is_not_there_is_named_and_never_shown(tmp_path, value, message):
    (tmp_path / "empty").write_text(" \n")
    with pytest.raises(ValueError) as error:
        build(WithSecret, value, folder=tmp_path)
    assert message in str(error.value)


@dataclass(frozen=True)
class Query:
    limit: Annotated[int, Range(1, 10_000)] = 10_000
    revisions: bool = False
    since: str | None = None


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"limit": "0"}, "limit is 0, expected a whole number from 1 to 10000"),
        ({"limit": "1.0"}, "limit is 1.0, expected a whole number"),
        ({"limit": "９"}, "limit is ９, expected a whole number"),
        ({"limit": "9" * 400}, "expected a whole number"),
        ({"revisions": "True"}, "revisions is True, expected true or false"),
        ({"since2": "1"}, "since2 is not a known key; did you mean since?"),
    ],
)
def test_parameters_of_a_url_are_read_as_their_types(texts, message):
    with pytest.raises(ValueError) as error:
        build_from_text(Query, texts)
    assert message in str(error.value)
    assert build_from_text(Query, {"limit": "7", "revisions": "true"}) == Query(7, True)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 70000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["auto", "native", "a", "warp", ""]),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=2), inside),
    max_leaves=5,
)
KEYS = st.sampled_from([*Everything.__dataclass_fields__, "unknown"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, VALUES, max_size=4), st.booleans())
def test_the_reader_and_its_json_schema_agree(value, with_port):
    """Independent source: jsonschema. Whole floats (4.0) are integers only to JSON Schema."""
    if with_port:
        value = {"port": 80, **value}
    try:
        build(Everything, value)
        accepted = True
    except ValueError:
        accepted = False
    integral = any(
        isinstance(item, float) and item.is_integer() and abs(item) < 2**53
        for item in _leaves(value)
    )
    if accepted or not (integral or _looser_in_schema(value)):
        validator = jsonschema.Draft202012Validator(json_schema(Everything))
        assert validator.is_valid(value) == accepted


def _leaves(value):
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    else:
        yield value


def _looser_in_schema(value):
    """A single item for a list, and null, are shorthands of the reader alone."""
    return not isinstance(value.get("shrink", []), list)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 5000, "nested too deeply"),
        ('{"a": 1, "a": 2}', "duplicate key a"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": 1e999}', "beyond float64"),
        (b"\xff", "not UTF-8"),
        ("{", "Expecting"),
    ],
)
def test_texts_that_are_not_json(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_files(tmp_path):
    kind = SettingsFile("plan", UsageError, "docs/x.md has one", max_bytes=2**20)
    (tmp_path / "a.toml").write_text("b = 1")
    (tmp_path / "a.json").write_text(json.dumps({"b": 1}))
    assert kind.load(tmp_path / "a.toml") == kind.load(tmp_path / "a.json") == {"b": 1}
    (tmp_path / "deep.toml").write_text("a = " + "[" * 5000)
    (tmp_path / "bad.toml").write_text("a = ")
    (tmp_path / "latin.toml").write_bytes(b"a = '\xe9'")
    (tmp_path / "large.toml").write_text("#" * (2**20 + 1))
    for name, message in (
        ("none.toml", "no such file; docs/x.md has one"),
        ("deep.toml", "not a plan in TOML"),
        ("bad.toml", "not a plan in TOML"),
        ("latin.toml", "not a plan in TOML"),
        ("large.toml", "larger than 1 MB"),
        (".", "is a folder"),
    ):
        with pytest.raises(UsageError) as error:
            kind.load(tmp_path / name)
        assert message in str(error.value)
        assert str(error.value).startswith(str(tmp_path))
    assert SettingsFile("x").error is DataError
