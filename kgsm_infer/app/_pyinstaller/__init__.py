"""Register the PyInstaller hook (entry point ``pyinstaller40``)."""

from __future__ import annotations

from pathlib import Path


def get_hook_dirs() -> list[str]:
    """Return the folder of ``hook-kgsm_infer.py``."""
    return [str(Path(__file__).parent)]
