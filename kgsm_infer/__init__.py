"""kgsm_infer: soil moisture from Sentinel-1 backscatter, the light side.

    model = kgsm_infer.load("model.onnx")
    for paddock in model.newest(kgsm_infer.read_table("observations.csv")):
        print(paddock["site"], paddock["sm"], paddock["flags"])

Importing this package loads nothing heavy; the names below load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

_WHERE = {
    "load": "model.model",
    "Model": "model.model",
    "Retrieval": "model.result",
    "Table": "tables.table",
    "read_table": "tables.table",
    "table_from_columns": "tables.table",
    "Wcm": "kernels.wcm",
    "Limits": "kernels.wcm",
    "KgsmError": "base.errors",
    "UsageError": "base.errors",
    "DataError": "base.errors",
    "ModelError": "base.errors",
    "MissingError": "base.errors",
}
__all__ = ["__version__", *_WHERE]

if TYPE_CHECKING:  # the same names once more, for type checkers
    from .base.errors import DataError as DataError
    from .base.errors import KgsmError as KgsmError
    from .base.errors import MissingError as MissingError
    from .base.errors import ModelError as ModelError
    from .base.errors import UsageError as UsageError
    from .kernels.wcm import Limits as Limits
    from .kernels.wcm import Wcm as Wcm
    from .model.model import Model as Model
    from .model.model import load as load
    from .model.result import Retrieval as Retrieval
    from .tables.table import Table as Table
    from .tables.table import read_table as read_table
    from .tables.table import table_from_columns as table_from_columns
else:

    def __getattr__(name: str) -> object:
        if name not in _WHERE:
            raise AttributeError(f"module 'kgsm_infer' has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f".{_WHERE[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
