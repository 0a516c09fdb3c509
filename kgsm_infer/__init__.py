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
    "load": "model",
    "Model": "model",
    "Retrieval": "model",
    "Table": "table",
    "read_table": "table",
    "table_from_columns": "table",
    "Wcm": "kernels.wcm",
    "Limits": "kernels.wcm",
    "KgsmError": "errors",
    "UsageError": "errors",
    "DataError": "errors",
    "ModelError": "errors",
    "MissingError": "errors",
}
__all__ = ["__version__", *_WHERE]

if TYPE_CHECKING:  # the same names once more, for type checkers
    from .errors import DataError as DataError
    from .errors import KgsmError as KgsmError
    from .errors import MissingError as MissingError
    from .errors import ModelError as ModelError
    from .errors import UsageError as UsageError
    from .kernels.wcm import Limits as Limits
    from .kernels.wcm import Wcm as Wcm
    from .model import Model as Model
    from .model import load as load
    from .retrieval import Retrieval as Retrieval
    from .table import Table as Table
    from .table import read_table as read_table
    from .table import table_from_columns as table_from_columns
else:

    def __getattr__(name: str) -> object:
        if name not in _WHERE:
            raise AttributeError(f"module 'kgsm_infer' has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f".{_WHERE[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
