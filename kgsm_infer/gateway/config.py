"""``gateway.toml``: what the gateway watches, knows, keeps and tells.

Paths are relative to the file's folder. Secrets are never in it: they are named, and read from
a file or an environment variable. Every key is checked; an unknown one is refused.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..base.errors import UsageError
from ..tables.duplicates import KEEP


@dataclass(frozen=True)
class Keep:
    """What stays on disk. steps: acquisitions of each site kept as inputs (at least T).

    values_days: age of the oldest value kept, counted back from the newest acquisition and
    not from the clock, which a box without power may have lost.
    """

    steps: int = 40
    values_days: float = 3650.0
    archive_mb: float = 200.0
    quarantine_mb: float = 50.0
    backups: int = 2
    backup_hours: float = 24.0
    free_mb: float = 50.0


@dataclass(frozen=True)
class Mqtt:
    """A broker. password: None without; it is never printed."""

    host: str
    port: int
    tls: bool
    ca_file: Path | None
    username: str | None
    password: str | None = field(repr=False)
    topic: str = "kgsm"
    discovery: str | None = "homeassistant"
    probes: bool = False


@dataclass(frozen=True)
class Farmos:
    """Data streams. url: with ``{stream}``; streams: paddock -> stream; keys: paddock -> key."""

    url: str
    name: str
    streams: Mapping[str, str]
    keys: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Serve:
    """The HTTP side. token: None only on loopback."""

    host: str
    port: int
    token: str | None = field(repr=False)
    cert_file: Path | None = None
    key_file: Path | None = None
    with_watch: bool = True
    body_mb: float = 4.0
    requests_per_s: float = 0.0  # 0: no limit on loopback, 50 elsewhere
    connections: int = 512


@dataclass(frozen=True)
class Gateway:
    """A gateway as configured. name: of the gateway itself, in topics and on the page."""

    source: Path
    name: str
    title: str
    model: Path
    engine: str
    spool: Path
    state: Path
    outlines: Path | None
    outline_id: str | None
    outline_name: str | None
    columns: Mapping[str, str]
    contradictions: str
    stable_s: float
    rescan_s: float
    keep: Keep
    mqtt: Mqtt | None
    farmos: Farmos | None
    serve: Serve

    @property
    def database(self) -> Path:
        return self.state / "gateway.db"

    @property
    def archive(self) -> Path:
        return self.state / "archive"

    @property
    def quarantine(self) -> Path:
        return self.state / "quarantine"

    @property
    def backups(self) -> Path:
        return self.state / "backups"

    @property
    def models(self) -> Path:
        return self.state / "models"


def read_gateway(path: str | Path) -> Gateway:
    """Read and check a gateway.toml; UsageError names the key that is wrong."""
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; docs/gateway.md has one to start from") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not readable TOML ({error})") from None
    top = _Section(path, "", raw)
    folder = path.resolve().parent
    spool = folder / top.text("spool", "spool")
    state = folder / top.text("state", "state")
    if spool == state or spool in state.parents or state in spool.parents:
        raise UsageError(f"{path}: spool and state must be two folders, neither in the other")
    paddocks = top.section("paddocks")
    outlines = paddocks.text("outlines", None)
    columns = top.section("columns")
    mqtt, farmos, serve = (top.optional(name) for name in ("mqtt", "farmos", "serve"))
    found = Gateway(
        source=path,
        name=_name(top.text("name", "kgsm"), path),
        title=top.text("title", "Soil moisture"),
        model=folder / top.text("model"),
        engine=top.text("engine", "auto"),
        spool=spool,
        state=state,
        outlines=None if outlines is None else folder / outlines,
        outline_id=paddocks.text("id", None),
        outline_name=paddocks.text("name", None),
        columns={ours: columns.text(ours) for ours in list(columns.raw)},
        contradictions=_contradictions(top),
        stable_s=top.number("stable_s", 5.0, low=0.0),
        rescan_s=top.number("rescan_s", 300.0, low=1.0),
        keep=_keep(top.section("keep")),
        mqtt=None if mqtt is None else _mqtt(mqtt, folder),
        farmos=None if farmos is None else _farmos(farmos, folder),
        serve=_serve(serve or _Section(path, "serve", {}), folder),
    )
    paddocks.done()
    top.done()
    return found


@dataclass
class _Section:
    """One table of the file; remembers what was asked for, so that the rest can be refused."""

    path: Path
    name: str
    raw: Mapping[str, Any]
    asked: set[str] = field(default_factory=set)

    def _get(self, key: str) -> Any:
        self.asked.add(key)
        return self.raw.get(key)

    def refuse(self, key: str, why: str) -> UsageError:
        return UsageError(f"{self.path}: {self.name + '.' if self.name else ''}{key}: {why}")

    def text(self, key: str, default: Any = ...) -> Any:
        value = self._get(key)
        if value is None:
            if default is ...:
                raise self.refuse(key, "is missing; docs/gateway.md shows it")
            return default
        if not isinstance(value, str) or not value.strip():
            raise self.refuse(key, f"{value!r} is not a text")
        return value

    def number(self, key: str, default: float, low: float = -math.inf) -> float:
        value = self._get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= low:
            raise self.refuse(key, f"{value!r} is not a number{f' of at least {low:g}'}")
        return float(value)

    def truth(self, key: str, default: bool) -> bool:
        value = self._get(key)
        if value is not None and not isinstance(value, bool):
            raise self.refuse(key, f"{value!r} is neither true nor false")
        return default if value is None else value

    def section(self, key: str) -> _Section:
        return self.optional(key) or _Section(self.path, key, {})

    def optional(self, key: str) -> _Section | None:
        value = self._get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.refuse(key, f"must be a table, [{key}]")
        return _Section(self.path, f"{self.name}.{key}" if self.name else key, value)

    def secret(self, key: str, folder: Path) -> str | None:
        """``key_file`` (a path) or ``key_env`` (a variable's name); never ``key`` itself."""
        if key in self.raw:
            raise self.refuse(key, f"secrets do not stand here; give {key}_file or {key}_env")
        file, variable = self.text(f"{key}_file", None), self.text(f"{key}_env", None)
        if file is not None and variable is not None:
            raise self.refuse(f"{key}_file", f"and {key}_env: give one of them")
        if variable is not None:
            value = os.environ.get(variable, "").strip()
            if not value:
                raise self.refuse(f"{key}_env", f"the variable {variable} is not set")
            return value
        if file is None:
            return None
        # systemd hands secrets over in a folder of its own (LoadCredential=)
        place = Path(file.replace("{credentials}", os.environ.get("CREDENTIALS_DIRECTORY", "")))
        try:
            value = (folder / place).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise self.refuse(f"{key}_file", f"{file} cannot be read ({error})") from None
        if not value:
            raise self.refuse(f"{key}_file", f"{file} is empty")
        return str(value)

    def done(self) -> None:
        unknown = sorted(set(self.raw) - self.asked)
        if unknown:
            known = ", ".join(sorted(self.asked))
            raise self.refuse(unknown[0], f"is not a key here; known: {known}")


def _name(text: str, path: Path) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise UsageError(f"{path}: name: {text!r} must be letters, digits, - and _ (it is a topic)")
    return text


def _contradictions(top: _Section) -> str:
    """What to do with rows of one acquisition that contradict each other: a word of twins.KEEP."""
    word: str = top.text("contradictions", "empty")
    if word not in KEEP:
        raise top.refuse("contradictions", f"{word!r} is none of {', '.join(KEEP)}")
    return word


def _keep(section: _Section) -> Keep:
    plain = Keep()
    found = Keep(
        steps=int(section.number("steps", plain.steps, low=1)),
        values_days=section.number("values_days", plain.values_days, low=1),
        archive_mb=section.number("archive_mb", plain.archive_mb, low=0),
        quarantine_mb=section.number("quarantine_mb", plain.quarantine_mb, low=0),
        backups=int(section.number("backups", plain.backups, low=1)),
        backup_hours=section.number("backup_hours", plain.backup_hours, low=0.01),
        free_mb=section.number("free_mb", plain.free_mb, low=0),
    )
    section.done()
    return found


def _mqtt(section: _Section, folder: Path) -> Mqtt:
    tls = section.truth("tls", True)
    ca_file = section.text("ca_file", None)
    discovery = section.text("discovery", "homeassistant")
    topic = section.text("topic", "kgsm")
    for key, text in (("topic", topic), ("discovery", discovery)):
        if re.search(r"[+#\0]|^/|/$", text):
            raise section.refuse(key, f"{text!r} is not a topic to publish under")
    found = Mqtt(
        host=section.text("host"),
        port=int(section.number("port", 8883 if tls else 1883, low=1)),
        tls=tls,
        ca_file=None if ca_file is None else folder / ca_file,
        username=section.text("username", None),
        password=section.secret("password", folder),
        topic=topic,
        discovery=discovery if section.truth("home_assistant", True) else None,
        probes=section.truth("probes", False),
    )
    section.done()
    if found.password is not None and not tls and not is_loopback(found.host):
        raise section.refuse("tls", "a password would go over the network in the clear; use TLS")
    return found


def _farmos(section: _Section, folder: Path) -> Farmos:
    url = section.text("url")
    host = re.match(r"(https?)://([^/:]+)", url)
    if "{stream}" not in url or host is None:
        raise section.refuse("url", f"{url!r} must be a URL with {{stream}} in it")
    if host[1] == "http" and not is_loopback(host[2]):
        raise section.refuse("url", "a data stream's key would go in the clear; use https")
    streams = section.section("streams")
    names = {key: streams.text(key) for key in list(streams.raw)}
    text = section.secret("keys", folder)
    try:
        keys = tomllib.loads(text or "")
    except ValueError as error:
        raise section.refuse("keys_file", f'must hold lines like 7 = "key" ({error})') from None
    for paddock in names:
        if not isinstance(keys.get(paddock), str):
            raise section.refuse("keys_file", f"has no key for paddock {paddock}")
    found = Farmos(url, section.text("name", "soil moisture"), names, keys)
    section.done()
    return found


def _serve(section: _Section, folder: Path) -> Serve:
    cert, key = section.text("cert_file", None), section.text("key_file", None)
    if (cert is None) != (key is None):
        raise section.refuse("cert_file", "and key_file go together")
    plain = Serve("127.0.0.1", 8086, None)
    found = Serve(
        host=section.text("host", plain.host),
        port=int(section.number("port", plain.port, low=0)),
        token=section.secret("token", folder),
        cert_file=None if cert is None else folder / cert,
        key_file=None if key is None else folder / key,
        with_watch=section.truth("with_watch", plain.with_watch),
        body_mb=section.number("body_mb", plain.body_mb, low=0.001),
        requests_per_s=section.number("requests_per_s", plain.requests_per_s, low=0),
        connections=int(section.number("connections", plain.connections, low=1)),
    )
    section.done()
    if found.token is not None and len(found.token) < 16:
        raise section.refuse(
            "token_file", "a token has at least 16 characters; openssl rand -hex 16"
        )
    return found


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own, by its text alone.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0"), is_loopback("localhost")
    (True, False, True)
    """
    import ipaddress

    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
