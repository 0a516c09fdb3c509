"""The columns a model reads from a table, a scene or the store of a gateway."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InputColumns:
    """Column names of a model's inputs.

    backscatter: ``vh_db`` or ``vv_db``; None in a model that reads no radar.  vegetation:
    ``ndvi`` or ``vwc_kg_m2``, None without a water cloud model.  angle: ``angle_deg`` where the
    water cloud model reads it.  dynamic, statics: features in the order of the channels.
    optional: columns used where they are there: frost, and vegetation for its flag.
    """

    backscatter: str | None
    vegetation: str | None = None
    angle: str | None = None
    dynamic: tuple[str, ...] = ()
    statics: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Required columns, each once, the backscatter first.

        >>> InputColumns("vh_db", "ndvi", dynamic=("vv_db", "ndvi"), statics=("clay",)).columns
        ('vh_db', 'ndvi', 'vv_db', 'clay')
        """
        single = [name for name in (self.backscatter, self.vegetation, self.angle) if name]
        return tuple(dict.fromkeys([*single, *self.dynamic, *self.statics]))
