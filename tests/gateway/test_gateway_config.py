"""gateway.toml: every wrong key is named with its value and what is allowed."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest

from kgsm_infer.base.errors import UsageError
from kgsm_infer.gateway.config import (
    DailySettings,
    Farmos,
    Keep,
    Mqtt,
    Serve,
    WeatherSource,
    read_gateway,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "farm" / "gateway.toml"
SECRETS = ("token_file", "password_file", "keys_file", "daily_keys_file")


def read(folder, text):
    path = folder / "gateway.toml"
    top = text if "[" not in text else ""
    path.write_text(f'{top}\nmodel = "m.onnx"\n{"" if top else text}')
    return read_gateway(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[keep]\nsteps = 40.9", "keep.steps is 40.9, expected a whole number of at least 1"),
        ("[keep]\nbackups = 2.9", "keep.backups is 2.9, expected a whole number of at least 1"),
        ("[keep]\nsteps = inf", "keep.steps is inf, expected a whole number of at least 1"),
        ("[keep]\nvalues_days = inf", "keep.values_days is inf, expected a number of at least 1"),
        ("[keep]\nvalues_days = nan", "keep.values_days is nan, expected a number"),
        ("[keep]\nfree_mb = -1", "keep.free_mb is -1, expected a number of at least 0"),
        ('[columns]\nvh_db = "VV"\nvv_db = "VV"', "VV is the column of vh_db and vv_db; name two"),
        ("[serve]\nport = 8086.7", "serve.port is 8086.7, expected a whole number from 0 to 65535"),
        ("[serve]\nport = 70000", "serve.port is 70000, expected a whole number from 0 to 65535"),
        ("[serve]\nconnections = true", "serve.connections is true, expected a whole number"),
        ("[serve]\ncert_file = 'c'", "serve: cert_file and key_file must be given together"),
        ('[mqtt]\nhost = "h"\nport = 0', "mqtt.port is 0, expected a whole number from 1 to 65535"),
        ('[mqtt]\nhost = "h"\ntopic = "a/#"', "mqtt.topic is a/#, expected a topic"),
        ('[mqtt]\nhost = " "', "mqtt.host is  , expected text that is not blank"),
        ("[mqtt]\nport = 1", "mqtt.host is missing"),
        ("mqtt = 3", "mqtt is 3, expected a table"),
        ('engine = "warp"', "engine is warp, expected one of auto, native, onnxruntime"),
        ('contradictions = "eny"', "contradictions is eny, expected one of refuse, empty"),
        ("stable_s = -1", "stable_s is -1, expected a number of at least 0"),
        ("rescan_s = inf", "rescan_s is inf, expected a number of at least 1"),
        ("[columns]\nsite = 3", "columns.site is 3, expected text"),
        (
            "[paddocks]\noutline = 'x'",
            "paddocks.outline is not a known key; did you mean outlines?",
        ),
        ("[keep]\nstep = 4", "keep.step is not a known key; did you mean steps?"),
        ("[farmos]\nurl = 'https://x'", "farmos: url is https://x, expected a URL with {stream}"),
    ],
)
def test_a_wrong_key_is_named(tmp_path, text, message):
    with pytest.raises(UsageError) as error:
        read(tmp_path, text)
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "gateway.toml: "))
    assert "\n" not in str(error.value)


def test_defaults_follow_other_keys(tmp_path):
    def mqtt(text):
        return read(tmp_path, f'[mqtt]\nhost = "h"\n{text}').mqtt

    assert mqtt("").port == 8883
    assert mqtt("tls = false").port == 1883
    assert mqtt("tls = false\nport = 8883").port == 8883
    assert (mqtt("").discovery, mqtt("home_assistant = false").discovery) == ("homeassistant", None)


def test_farmos_keys_stay_out_of_the_file(tmp_path):
    (tmp_path / "keys.toml").write_text('7 = "secret"')
    text = '[farmos]\nurl = "https://f/{stream}"\nkeys_file = "keys.toml"\n[farmos.streams]\n'
    found = read(tmp_path, text + '7 = "a"').farmos
    assert (found.keys, found.streams) == ({"7": "secret"}, {"7": "a"})
    assert "secret" not in repr(found)
    with pytest.raises(UsageError, match="keys_file has no key for paddock 8"):
        read(tmp_path, text + '8 = "a"')
    (tmp_path / "keys.toml").write_text("secret")
    with pytest.raises(
        UsageError, match=r"farmos\.keys_file: expected lines such as 7 = "
    ) as error:
        read(tmp_path, text + '7 = "a"')
    assert "secret" not in str(error.value)


def test_the_commented_example_holds_every_key(tmp_path):
    """Uncommented, the example is read, and shows every key and the defaults of most."""
    lines = EXAMPLE.read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("model = "))
    text = "\n".join(
        line.removeprefix("# ") for line in lines[start:] if " = " in line or "[" in line
    )
    for name, content in (
        ("token", "0123456789abcdef"),
        ("mqtt-password", "x"),
        ("farmos-keys.toml", 's01 = "key"'),
        ("farmos-daily-keys.toml", 's01 = "key"'),
    ):
        (tmp_path / name).write_text(content)
    (tmp_path / "gateway.toml").write_text(text)
    raw = tomllib.loads(text)
    found = read_gateway(tmp_path / "gateway.toml")
    kinds = {"keep": Keep, "serve": Serve, "mqtt": Mqtt, "farmos": Farmos,
             "weather": WeatherSource, "daily": DailySettings}  # fmt: skip
    for section, kind in kinds.items():
        names = {name.removesuffix("_file") if name in SECRETS else name for name in raw[section]}
        assert names == {item.name for item in dataclasses.fields(kind)}
    assert found.keep == Keep()
