"""Apply the water cloud model alone to a table: isolation (Eq 12) and inversion (Eq 6)."""

from __future__ import annotations

import numpy as np

from .. import kernels
from ..base import flags
from ..base.errors import UsageError
from ..base.quantities import SOIL_MOISTURE
from ..kernels.wcm import Isolated, Wcm, default_limits
from ..model.inputs import InputColumns
from ..model.observations import frost_flags, isolate_observed, observe
from ..model.result import Retrieval
from ..tables.table import Table


def wcm_of(a: float, b: float, e: float, vegetation: str, angle: str) -> Wcm:
    """Build water cloud parameters from command-line values.

    vegetation: ``ndvi`` or ``vwc_kg_m2``.  angle: a number of degrees for every row,
    ``column`` or ``normalise``. UsageError names the allowed values.

    >>> wcm_of(0.02, 0.084, 0.0, "ndvi", "37.5").angle_ref_deg
    37.5
    """
    rules = {"ndvi": "foliage", "vwc_kg_m2": "column"}
    if vegetation not in rules:
        raise UsageError(f"--vegetation {vegetation!r} must be ndvi or vwc_kg_m2")
    angle_rule, angle_ref_deg = angle, 40.0
    if angle not in ("column", "normalise"):
        try:
            angle_rule, angle_ref_deg = "constant", float(angle)
        except ValueError:
            raise UsageError(
                f"--angle {angle!r} must be a number of degrees, 'column' or 'normalise'"
            ) from None
    try:
        return Wcm(
            a=a,
            b=b,
            e=e,
            vwc_rule=rules[vegetation],
            angle_rule=angle_rule,
            angle_ref_deg=angle_ref_deg,
            limits=default_limits(rules[vegetation]),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def isolate_table(table: Table, wcm: Wcm, polarisation: str) -> Isolated:
    """Isolate the soil backscatter of every row; DataError if a column is missing."""
    if polarisation not in ("vh", "vv"):
        raise UsageError(f"--polarisation {polarisation!r} must be vh or vv")
    angle = "angle_deg" if wcm.needs_angle else None
    observed = observe(table, InputColumns(f"{polarisation}_db", wcm.vegetation_name, angle))
    soil = isolate_observed(wcm, observed)
    without, nan = observed.frozen | observed.frost_unknown, np.float32(np.nan)
    return Isolated(
        np.where(without, nan, soil.soil_db),
        np.where(without, nan, soil.soil_fraction),
        soil.flags | frost_flags(observed),
    )


def invert_table(table: Table, wcm: Wcm, polarisation: str, c_db: float, d_db: float) -> Retrieval:
    """Compute SM of the WCM for every row, clipped to its limits with ``sm_clipped``."""
    soil = isolate_table(table, wcm, polarisation)
    try:
        sm = kernels.invert(soil.soil_db, c_db, d_db)
    except ValueError as error:
        raise UsageError(str(error)) from None
    low, high = wcm.limits.sm
    with np.errstate(invalid="ignore"):
        clipped = (sm < low) | (sm > high)
    nan = np.full_like(sm, np.nan)
    mask = soil.flags | clipped * np.uint16(flags.SM_CLIPPED)
    return Retrieval(
        sm=np.clip(sm, np.float32(low), np.float32(high)),
        lower=nan,
        upper=nan,
        soil_db=soil.soil_db,
        flags=mask,
        quantity=SOIL_MOISTURE,
    )
