"""Interrupted again and again, a gateway ends where a calm one ends (200: -m exhaustive)."""

from __future__ import annotations

import pytest
from interruptions import interrupted
from made_brokers import Listener


@pytest.mark.slow
def test_some_interruptions(tmp_path, broker):
    outcome = interrupted(tmp_path, broker, Listener, 14)
    assert outcome.held, outcome
    assert outcome.acquisitions > 0


@pytest.mark.exhaustive
def test_two_hundred_interruptions(tmp_path, broker):
    outcome = interrupted(tmp_path, broker, Listener, 200, seed=7, say=print)
    assert outcome.held, outcome
