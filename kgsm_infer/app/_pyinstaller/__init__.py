"""Tells PyInstaller what an analysis of imports cannot see (entry point ``pyinstaller40``)."""

from __future__ import annotations

from pathlib import Path


def get_hook_dirs() -> list[str]:
    """Where ``hook-kgsm_infer.py`` lies."""
    return [str(Path(__file__).parent)]
