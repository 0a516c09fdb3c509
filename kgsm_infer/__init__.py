"""kgsm_infer: soil moisture from Sentinel-1 backscatter, the light side.

    model = kgsm_infer.load("model.onnx")
    result = model.retrieve(sigma0_db, ndvi, days=days)

Importing this package loads nothing heavy; the names below load on first use.
"""

from __future__ import annotations

__version__ = "0.1.0"

_WHERE = {
    "load": "model",
    "Model": "model",
    "Retrieval": "model",
    "read_table": "table",
    "Wcm": "kernels.wcm",
    "Limits": "kernels.wcm",
}
__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'kgsm_infer' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_WHERE[name]}", __name__), name)
