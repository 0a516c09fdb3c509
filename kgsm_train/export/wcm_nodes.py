"""Water cloud model as nodes of the exported graph."""

from __future__ import annotations

import math

from kgsm_infer.kernels.wcm import DB_TO_NEPER, VWC_NDVI2, VWC_ROOT, VWC_ROOT_LOW, Wcm

from .nodes import Graph


def isolation(graph: Graph, wcm: Wcm) -> tuple[str, str, str]:
    """Add Eqs 1, 2, 4, 5 and 12 as nodes; returns the names of soil_db, soil_fraction and vwc."""
    node, constant = graph.node, graph.constant
    vwc = "vwc_kg_m2"
    if wcm.vwc_rule == "foliage":  # max(0, 1.9134 N**2 - 0.3215 N) + stem
        # as 1.9134 N (N - root), the root in two floats: see VWC_ROOT
        steep = node("Mul", ["ndvi", constant("vwc_ndvi2", VWC_NDVI2)], "ndvi_times_vwc_ndvi2")
        above = node("Sub", ["ndvi", constant("vwc_root", VWC_ROOT)], "ndvi_above_root_rounded")
        above = node("Sub", [above, constant("vwc_root_low", VWC_ROOT_LOW)], "ndvi_above_root")
        foliage = node("Mul", [steep, above], "foliage_unbounded")
        foliage = node("Max", [foliage, constant("zero", 0.0)], "foliage_kg_m2")
        vwc = node("Add", [foliage, constant("stem_kg_m2", wcm.stem_kg_m2)], "vwc")
    neper = node("Mul", ["sigma0_db", constant("db_to_neper", DB_TO_NEPER)], "sigma0_neper")
    sigma0 = node("Exp", [neper], "sigma0")
    if wcm.angle_rule != "column":
        cos_theta = constant("cos_ref", math.cos(math.radians(wcm.angle_ref_deg)))
    if wcm.needs_angle:
        # the sine of the complement, which is exact, keeps the digits of a steep angle
        complement = node("Sub", [constant("right_angle", 90.0), "angle_deg"], "complement_deg")
        per_degree = constant("radians_per_deg", math.pi / 180)
        cos_angle = node("Sin", [node("Mul", [complement, per_degree], "complement")], "cos_angle")
        if wcm.angle_rule == "normalise":
            ratio = node("Div", [cos_theta, cos_angle], "cos_ratio")
            power = node(
                "Pow", [ratio, constant("angle_exponent", wcm.angle_exponent)], "to_ref_angle"
            )
            sigma0 = node("Mul", [sigma0, power], "sigma0_at_ref")
        else:
            cos_theta = cos_angle
    # gamma2 = exp(-2 tau / cos theta), tau = B V                                (4) (5)
    two_b_v = node("Mul", [vwc, constant("two_b", 2 * wcm.b)], "two_b_vwc")
    two_tau = node("Div", [two_b_v, cos_theta], "two_tau")
    # sigma_veg = A V**E cos theta (1 - gamma2)                                      (2)
    # with 1 - exp(-x) = 2 t / (1 + t), t = tanh(x / 2): thin vegetation keeps its digits
    half = node("Tanh", [node("Mul", [two_tau, constant("half", 0.5)], "tau")], "tanh_tau")
    twice = node("Add", [half, half], "two_tanh_tau")
    above = node("Add", [half, constant("one", 1.0)], "one_plus_tanh_tau")
    absorbed = node("Div", [twice, above], "one_minus_gamma2")
    a_cos = node("Mul", [constant("a", wcm.a), cos_theta], "a_cos_theta")
    sigma_veg = node("Mul", [a_cos, absorbed], "sigma_veg" if wcm.e == 0 else "sigma_veg_per_vwc_e")
    if wcm.e != 0:
        v_e = node("Pow", [vwc, constant("e", wcm.e)], "vwc_to_e")
        sigma_veg = node("Mul", [sigma_veg, v_e], "sigma_veg")
    # sigma_soil[dB] = 10 log10((sigma0 - sigma_veg) / gamma2)                  (1) (12)
    left = node("Sub", [sigma0, sigma_veg], "sigma0_minus_veg")
    fraction = node("Div", [left, sigma0], "soil_fraction")
    neper_soil = node("Add", [node("Log", [left], "log_left"), two_tau], "soil_neper")
    soil_db = node("Mul", [neper_soil, constant("neper_to_db", 1 / DB_TO_NEPER)], "soil_db_of_step")
    return soil_db, fraction, vwc
