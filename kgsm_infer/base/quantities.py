"""The quantities a model may retrieve, with the name and the unit each is published under.

    name            column    unit     meaning
    soil_moisture   sm        m3 m-3   volumetric water content of the top 5 cm
    wetness         wetness   1        index: 0 driest, 1 wettest that the place has shown
    unknown         value     unknown  a stored value whose model is gone

Every result carries its quantity, and every writer names its columns and units after it. A value
in percent of volume exists for soil moisture only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """A retrieved quantity.

    name: identifier in messages and in the store.  column: name of the value in tables, records
    and rasters, and on a model card.  unit: UDUNITS spelling.  title: name for people.
    label: title with its unit, for axes and legends.  upper_end: of the colour scale, from 0.
    """

    name: str
    column: str
    unit: str
    title: str
    label: str
    upper_end: float = 1.0

    @property
    def in_percent(self) -> bool:
        """True where 100 times the value is a percentage of the soil's volume."""
        return self.unit == "m3 m-3"

    def column_of(self, field: str) -> str:
        """Return the published name of a result's field.

        ``sm`` and ``sm_...`` are named after the quantity; other names stay.

        >>> WETNESS.column_of("sm_lower"), WETNESS.column_of("flags"), WETNESS.column_of("sm")
        ('wetness_lower', 'flags', 'wetness')
        """
        if field == "sm" or field.startswith("sm_"):
            return self.column + field.removeprefix("sm")
        return field


SOIL_MOISTURE = Quantity(
    name="soil_moisture",
    column="sm",
    unit="m3 m-3",
    title="Soil moisture",
    label="soil moisture, 0-5 cm (m³/m³)",
    upper_end=0.5,
)
WETNESS = Quantity(
    name="wetness",
    column="wetness",
    unit="1",
    title="Wetness index",
    label="wetness index: 0 driest, 1 wettest (no unit)",
)
#: The quantity of a stored value whose model file is gone. No model retrieves it.
UNKNOWN = Quantity(
    name="unknown",
    column="value",
    unit="unknown",
    title="Unknown quantity",
    label="unknown quantity: the model that made it is gone",
)
#: The quantities that a model may retrieve, by their name on a card.
RETRIEVED = {quantity.column: quantity for quantity in (SOIL_MOISTURE, WETNESS)}


def quantity_named(name: str) -> Quantity:
    """Return a quantity by its identifier; UNKNOWN for any other text.

    >>> quantity_named("wetness") is WETNESS, quantity_named("") is UNKNOWN
    (True, True)
    """
    return next((found for found in RETRIEVED.values() if found.name == name), UNKNOWN)
