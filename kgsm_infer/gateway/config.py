"""Read ``gateway.toml``.

Each table of the file is a dataclass below; the constraints of its fields are checked by
:mod:`kgsm_infer.base.schema`. Paths are relative to the file's folder. Secrets are never in the
file: it names a file or an environment variable that holds them.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..base.errors import UsageError
from ..base.schema import Choices, Length, Pattern, Range, Secret, SettingsFile, parse_toml, read
from ..model.engines import ENGINES
from ..tables.duplicates import KEEP

_FILE = SettingsFile(
    "gateway configuration", UsageError, "docs/gateway.md has one to start from", 2**20
)
Text = Annotated[str, Pattern(r"(?s).*\S.*", "text that is not blank")]
Port = Annotated[int, Range(1, 65535)]
Megabytes = Annotated[float, Range(0)]
Topic = Annotated[
    str, Pattern(r"[^+#\0/\s](?:[^+#\0]*[^+#\0/])?", "a topic without +, # and outer slashes")
]


@dataclass(frozen=True)
class Keep:
    """``[keep]``: limits of the data kept on disk.

    steps: acquisitions of each paddock kept as inputs (at least T); up to an eighth more stay
        until they are pruned together.
    values_days: age of the oldest value kept, counted back from the newest acquisition; the
        clock of a box that lost power cannot be trusted.
    """

    steps: Annotated[int, Range(1)] = 40
    values_days: Annotated[float, Range(1)] = 3650.0
    archive_mb: Megabytes = 200.0
    quarantine_mb: Megabytes = 50.0
    backups: Annotated[int, Range(1)] = 2
    backup_hours: Annotated[float, Range(0.01)] = 24.0
    free_mb: Megabytes = 50.0


@dataclass(frozen=True)
class Mqtt:
    """``[mqtt]``: the broker.

    port: 8883 with TLS and 1883 without, if omitted.  password: never printed.
    discovery: prefix of Home Assistant's discovery topics.  home_assistant: announce to it.
    probes: subscribe to readings of soil moisture probes.
    """

    host: Text
    port: Port = 8883
    tls: bool = True
    ca_file: Path | None = None
    username: Text | None = None
    password: Annotated[str | None, Secret()] = field(default=None, repr=False)
    topic: Topic = "kgsm"
    discovery: Topic | None = "homeassistant"
    home_assistant: bool = True
    probes: bool = False

    def __post_init__(self) -> None:
        if self.password is not None and not self.tls and not is_loopback(self.host):
            raise ValueError("tls: a password would cross the network unencrypted; use TLS")


def _read_keys(text: str) -> dict[str, Any]:
    try:
        return parse_toml(text)
    except ValueError as error:
        raise ValueError(f'expected lines such as 7 = "key" ({error})') from None


@dataclass(frozen=True)
class Farmos:
    """``[farmos]``: data streams of a farmOS server.

    url: with ``{stream}``.  streams: paddock -> stream.  keys: paddock -> private key.
    daily_streams, daily_keys: the same of daily values, whose streams are named ``daily_name``.
    """

    url: Text
    name: Text = "soil moisture"
    streams: Mapping[str, Text] = field(default_factory=dict)
    keys: Annotated[Mapping[str, str], Secret(_read_keys)] = field(default_factory=dict, repr=False)
    daily_name: Text = "daily soil moisture"
    daily_streams: Mapping[str, Text] = field(default_factory=dict)
    daily_keys: Annotated[Mapping[str, str], Secret(_read_keys)] = field(
        default_factory=dict, repr=False
    )

    def __post_init__(self) -> None:
        host = re.match(r"(https?)://([^/:]+)", self.url)
        if "{stream}" not in self.url or host is None:
            raise ValueError(f"url is {self.url}, expected a URL with {{stream}} in it")
        if host[1] == "http" and not is_loopback(host[2]):
            raise ValueError("url: the key of a data stream would be sent unencrypted; use https")
        for kind in ("", "daily_"):
            keys = getattr(self, f"{kind}keys")
            for paddock in getattr(self, f"{kind}streams"):
                if not isinstance(keys.get(paddock), str):
                    raise ValueError(f"{kind}keys_file has no key for paddock {paddock}")


@dataclass(frozen=True)
class Serve:
    """``[serve]``: the HTTP server.

    token: required unless ``host`` is this machine only.
    requests_per_s: of one client; 0 means unlimited on the loopback address, else 50.
    """

    host: Text = "127.0.0.1"
    port: Annotated[int, Range(0, 65535)] = 8480
    token: Annotated[str | None, Secret()] = field(default=None, repr=False)
    cert_file: Path | None = None
    key_file: Path | None = None
    with_watch: bool = True
    body_mb: Annotated[float, Range(0.001)] = 4.0
    requests_per_s: Annotated[float, Range(0)] = 0.0
    connections: Annotated[int, Range(1)] = 512
    connections_per_client: Annotated[int, Range(1)] = 64
    hosts: tuple[
        Annotated[str, Pattern(r"[^\s/:]+|\[[0-9A-Fa-f:]+\]", "a name without port")], ...
    ] = ()

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file must be given together")
        if self.token is not None and len(self.token) < 16:
            raise ValueError("token_file: a token has at least 16 characters; openssl rand -hex 16")


@dataclass(frozen=True)
class Page:
    """``[page]``: how values are shown to people.

    timezone: IANA name, for local days; the browser's own if omitted.
    stale_days: age from which a value is marked as out of date.
    thresholds: bounds between the colours of the map, ascending, in percent of volume, or of the
        index of a model that retrieves it; chosen from the values if omitted.
    """

    timezone: Text | None = None
    stale_days: Annotated[float, Range(0.1)] = 14.0
    thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.timezone is not None:
            try:
                ZoneInfo(self.timezone)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise ValueError(
                    f"timezone is {self.timezone}, expected a name such as Australia/Melbourne"
                ) from None
        if len(self.thresholds) > 5 or any(a >= b for a, b in pairwise(self.thresholds)):
            raise ValueError(
                f"thresholds is {list(self.thresholds)}, expected at most 5 ascending numbers"
            )


@dataclass(frozen=True)
class WeatherSource:
    """``[weather]``: where rain comes from, besides files in the spool and posts.

    mqtt: subscribe to rain on TOPIC/NAME/rain, and to irrigation on TOPIC/NAME/irrigation.
    service: fetched from, by its name in :mod:`kgsm_infer.prepare.weather_services`; none if
        omitted.  email: which SILO asks for.  every_hours: between two requests.
    rain_day_ends: local hour at which a day's total was read; that of the service if omitted,
        else 24.
    """

    mqtt: bool = False
    service: Text | None = None
    email: str = ""
    every_hours: Annotated[float, Range(1, 240)] = 6.0
    rain_day_ends: Annotated[float, Range(above=0, high=24)] | None = None


@dataclass(frozen=True)
class PaddockWater:
    """Farm-unit numbers of a paddock (``[daily.paddocks.ID]``), or of all (``[daily]``).

    wilting_point, field_capacity: m3 m-3.  refill_percent: threshold of plant-available water.
    sand, clay: mass fractions.  threshold: of the value itself, m3 m-3 or of the index.
    """

    wilting_point: Annotated[float, Range(0, 1)] | None = None
    field_capacity: Annotated[float, Range(0, 1)] | None = None
    root_depth_mm: Annotated[float, Range(10, 5000)] | None = None
    refill_percent: Annotated[float, Range(1, 100)] | None = None
    sand: Annotated[float, Range(0, 1)] | None = None
    clay: Annotated[float, Range(0, 1)] | None = None
    threshold: Annotated[float, Range(0, 1)] | None = None


@dataclass(frozen=True)
class DailySettings(PaddockWater):
    """``[daily]``: values for every day; its numbers hold for paddocks without their own.

    parameters: a set that kgsm ships, or a JSON file of ``kgsm-train fit-daily``.
    hemisphere: of the farm; from the outlines, else from the parameters if omitted.
    keep_days: days for which values are kept.
    texture: use the outlines' ``sand`` and ``clay``, mass fractions.
    learn_limits: learn limits that are not stated from a year of daily values.
    """

    parameters: Text = "oznet"
    hemisphere: Annotated[str, Choices(("south", "north"))] | None = None
    keep_days: Annotated[int, Range(8, 3650)] = 400
    texture: bool = False
    learn_limits: bool = False
    paddocks: Mapping[str, PaddockWater] = field(default_factory=dict)


@dataclass(frozen=True)
class OutlineFile:
    """``[paddocks]``: file of outlines, and its attributes with their ids and names."""

    outlines: Path | None = None
    id: Text | None = None
    name: Text | None = None


@dataclass(frozen=True)
class _Settings:
    """The keys and tables of ``gateway.toml``."""

    model: Path
    name: Annotated[
        str, Pattern(r"[A-Za-z0-9_-]{1,64}", "1 to 64 letters, digits, - and _ (it is a topic)")
    ] = "kgsm"
    title: Text = "Soil moisture"
    engine: Annotated[str, Choices(ENGINES)] = "auto"
    spool: Path = Path("spool")
    state: Path = Path("state")
    contradictions: Annotated[str, Choices(KEEP)] = "empty"
    stable_s: Annotated[float, Range(0)] = 5.0
    rescan_s: Annotated[float, Range(1)] = 300.0
    paddocks: OutlineFile = field(default_factory=OutlineFile)
    columns: Mapping[str, Annotated[str, Length(1)]] = field(default_factory=dict)
    keep: Keep = field(default_factory=Keep)
    mqtt: Mqtt | None = None
    farmos: Farmos | None = None
    publishers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    serve: Serve = field(default_factory=Serve)
    page: Page = field(default_factory=Page)
    weather: WeatherSource = field(default_factory=WeatherSource)
    daily: DailySettings | None = None


@dataclass(frozen=True)
class Gateway:
    """Settings of a gateway, with absolute paths.

    name: of the gateway, used in topics.  daily: None without ``[daily]``.
    publishers: settings of destinations that other packages provide, by name.
    """

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
    publishers: Mapping[str, Mapping[str, Any]]
    serve: Serve
    page: Page
    weather: WeatherSource
    daily: DailySettings | None

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
    """Read a gateway.toml; UsageError names the file, the key, the value and what is allowed."""
    path = Path(path)
    raw, folder = _FILE.load(path), path.resolve().parent
    settings = read(_Settings, raw, path, UsageError, folder)
    for name in {"mqtt", "farmos"} & set(settings.publishers):
        raise UsageError(f"{path}: publishers.{name}: kgsm's own is set up by [{name}]")
    spool, state = folder / settings.spool, folder / settings.state
    if spool == state or spool in state.parents or state in spool.parents:
        raise UsageError(f"{path}: spool and state must be two folders, neither inside the other")
    for theirs, count in Counter(settings.columns.values()).items():
        if count > 1:
            names = " and ".join(name for name, one in settings.columns.items() if one == theirs)
            raise UsageError(f"{path}: columns: {theirs} is the column of {names}; name two")
    return Gateway(
        source=path,
        name=settings.name,
        title=settings.title,
        model=settings.model,
        engine=settings.engine,
        spool=spool,
        state=state,
        outlines=settings.paddocks.outlines,
        outline_id=settings.paddocks.id,
        outline_name=settings.paddocks.name,
        columns=settings.columns,
        contradictions=settings.contradictions,
        stable_s=settings.stable_s,
        rescan_s=settings.rescan_s,
        keep=settings.keep,
        mqtt=_with_defaults(settings.mqtt, raw.get("mqtt", {})),
        farmos=settings.farmos,
        publishers=settings.publishers,
        serve=settings.serve,
        page=settings.page,
        weather=settings.weather,
        daily=settings.daily,
    )


def _with_defaults(mqtt: Mqtt | None, raw: Mapping[str, Any]) -> Mqtt | None:
    """Set what depends on other keys: the port on TLS, the discovery on ``home_assistant``."""
    if mqtt is None:
        return None
    port = mqtt.port if "port" in raw or mqtt.tls else 1883
    return replace(mqtt, port=port, discovery=mqtt.discovery if mqtt.home_assistant else None)


def is_loopback(host: str) -> bool:
    """Return True if an address is this machine's own, judged by its text alone.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0"), is_loopback("localhost")
    (True, False, True)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
