"""A destination that another package provides, and one that is broken."""

from __future__ import annotations

import json

import pytest
from documented import ROOT, documented
from made_gateways import columns_of, drop, made_gateway
from running import Running, wait_for

from kgsm_infer.base.errors import UsageError
from kgsm_infer.gateway.store.database import Store

(SNIPPET,) = [
    item.text
    for item in documented(ROOT / "docs/integrate.md")
    if item.kind == "python" and "def my_archive" in item.text
]

#: Messages that wait after two passes of three paddocks, by publisher that cannot send.
BROKEN = {"absent": 6, "raising": 6, "unset": 6}


def reasons_of(watched):
    """Return the reasons why publishers wait, of the log so far."""
    return {item["reason"] for item in list(watched.lines) if item["event"] == "publisher_waits"}


def waiting(watched):
    """Return the names of the publishers that have logged a reason."""
    return {reason.partition(":")[0] for reason in reasons_of(watched)}


def unsent(gateway):
    """Return the number of queued messages by publisher."""
    with Store(gateway.database) as store:
        return store.unsent_counts()


@pytest.fixture
def site(tmp_path):
    """A folder with an installed package of four publishers, three of which fail."""
    info = tmp_path / "site/my_kgsm-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_kgsm\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[kgsm.publishers]\nmy-log = my_kgsm:my_log\nabsent = my_kgsm:absent\n"
        "raising = my_kgsm:raising\nunset = my_kgsm:strict\n"
    )
    more = "\n\ndef raising(settings):\n    def send(record):\n        raise OSError('no route')\n"
    more += "    return send\n\n\ndef strict(settings):\n    return settings['file'].write\n"
    (tmp_path / "site/my_kgsm.py").write_text(f"{SNIPPET}{more}")
    return tmp_path / "site"


def test_each_record_is_sent_once_and_broken_ones_wait(tmp_path, site, monkeypatch):
    out = tmp_path / "log.jsonl"
    tables = f'[publishers.my-log]\nfile = "{out}"\n[publishers.absent]\n[publishers.raising]\n'
    tables += "[publishers.unset]\n"
    gateway = made_gateway(tmp_path / "gateway", tables)
    monkeypatch.setenv("PYTHONPATH", f"{site}:{ROOT}")
    with Running("watch", gateway.source) as watched:
        watched.until("ready")
        for day in (0, 6):
            drop(gateway, columns_of(day, paddocks=3), f"{day}.csv")
            watched.until("stored")
        # each publisher has a thread of its own: one that has sent says nothing of the others
        wait_for(
            lambda: unsent(gateway) == BROKEN and waiting(watched) == set(BROKEN),
            lambda: f"{unsent(gateway)} unsent: {watched.text}",
        )
        assert watched.stop() == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [item["paddock"] for item in records[:3]] == ["p0", "p1", "p2"]
    assert {item["quantity"] for item in records} == {"soil_moisture"}
    assert len({(item["paddock"], item["acquired_at"]) for item in records}) == 6
    reasons = reasons_of(watched)
    assert any(text.startswith("absent: no package provides") for text in reasons)
    assert "raising: OSError: no route" in reasons
    assert "unset: KeyError: 'file'" in reasons  # a setting that the package needs
    assert unsent(gateway) == BROKEN


def test_names_of_kgsm_are_not_replaced(tmp_path):
    with pytest.raises(UsageError, match=r"publishers\.mqtt: kgsm's own is set up by \[mqtt\]"):
        made_gateway(tmp_path, "[publishers.mqtt]\n")
