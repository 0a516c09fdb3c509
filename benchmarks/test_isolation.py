"""Time isolation (Eqs 1-5, 12) and inversion (Eqs 3, 6) on one thread against other libraries.

Run with ``make bench``. Every peer computes soil_db, soil_fraction and flags, and is compared with
the NumPy twin before it is timed. Times are shown, never asserted. ``copy`` moves as many bytes
as isolation must (8 in and 10 out per row): it is the bandwidth of the machine, the bound for
long arrays. NumPy, numexpr, torch and the nodes of the complete ONNX graph make whole arrays at
each step, so for long arrays they also run in the fastest of several chunk sizes ("best chunk").
The ONNX nodes return the four comparisons from which the flags are made. numba's wheels lack
Intel's SVML and therefore vectorised mathematics. ``inversion`` continues to the soil moisture
of the WCM baseline, (soil_db - C) / D.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx.shape_inference
import onnx.utils
import onnxruntime as ort
import pytest
from bench_sizes import full_or
from made_models import card_of, network_of
from numpy.testing import assert_allclose, assert_array_equal
from on_engines import TIERS, fastest_tier, load_kernels
from pytest_benchmark.fixture import BenchmarkFixture

from kgsm_infer import kernels
from kgsm_infer.kernels import wcm
from kgsm_infer.kernels.wcm import Isolated, Wcm, default_limits
from kgsm_train.export.graph import complete_graph

WCM = Wcm(a=0.02, limits=default_limits("foliage"))
COS_REF = float(np.cos(np.deg2rad(WCM.angle_ref_deg)))
#: sigma0 = exp(NEPER s); 2 tau / cos theta = TAU V; sigma_veg = VEG (1 - gamma2)
NEPER, TAU, VEG = (np.float32(x) for x in (wcm.DB_TO_NEPER, 2 * WCM.b / COS_REF, WCM.a * COS_REF))
N2, ROOT = np.float32(wcm.VWC_NDVI2), np.float32(wcm.VWC_ROOT)
LEAST, DENSE = np.float32(WCM.min_soil_fraction), np.float32(WCM.limits.dense_vwc_kg_m2)
NAN, TEN, ONE, ZERO = (np.float32(x) for x in (np.nan, 10, 1, 0))
ROWS = full_or([1, 1_000], [1, 1_000, 100_000, 16_000_000])
CHUNKS = full_or([100, 400], [4_096, 16_384, 65_536, 262_144])
WHOLE = ["numpy", "numexpr", "torch", "onnx nodes"]
PEERS = [*(f"c {tier}" for tier in TIERS), *WHOLE, "numba"]
CHUNKED = [f"{name}, best chunk" for name in WHOLE]
CASES = [(name, rows) for rows in ROWS for name in [*PEERS, "copy"]]
CASES += [(name, ROWS[-1]) for name in CHUNKED]
#: Of the inversion, Eq 3.
C_DB, D_DB = np.float32(-20.0), np.float32(25.0)
Call = Callable[[], Any]


def observations(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw n rows of VH in dB and NDVI. One VH in fifty is missing."""
    rng = np.random.default_rng(0)
    sigma0_db = rng.normal(-19.0, 3.0, n).astype(np.float32)
    sigma0_db[rng.random(n) < 0.02] = np.nan
    return sigma0_db, rng.uniform(0.05, 0.9, n).astype(np.float32)


def peer(name: str, s: np.ndarray, v: np.ndarray) -> Call:
    """Return a call that isolates (s, v), into the same three arrays each time where it can."""
    out = Isolated(np.empty_like(s), np.empty_like(s), np.empty(s.shape, np.uint16))
    if name == "copy":
        a, b = np.empty(9 * len(s), np.uint8), np.ones(9 * len(s), np.uint8)

        def copy() -> None:
            np.copyto(a, b)

        return copy
    if name == "numpy":
        return lambda: wcm.isolate(WCM, s, v)
    if name.startswith("c "):
        core = load_kernels(name.removeprefix("c "))._core

        def in_c() -> Isolated:
            core.isolate(WCM, s, v, None, *out)
            return out

        return in_c
    others = {"numexpr": in_numexpr, "numba": in_numba, "torch": in_torch, "onnx nodes": in_onnx}
    return others[name](s, v, out)


def inverting(name: str, s: np.ndarray, v: np.ndarray) -> Call:
    """Return a call that continues from ``peer`` to soil moisture, in the same library."""
    isolate, sm = peer(name, s, v), np.empty_like(s)
    if name.startswith("c "):
        core = kernels._core

        def in_c() -> np.ndarray:
            core.invert(C_DB, D_DB, isolate().soil_db, sm)
            return sm

        return in_c
    if name == "numexpr":
        import numexpr as ne

        constants = {"c": C_DB, "d": D_DB}
        return lambda: ne.evaluate("(s - c) / d", constants | {"s": isolate().soil_db}, out=sm)
    if name == "numba":
        line = inverting_line()
        return lambda: line(isolate().soil_db, sm)
    if name == "torch":
        import torch

        return lambda: ((torch.from_numpy(isolate().soil_db) - C_DB.item()) / D_DB.item()).numpy()
    return lambda: wcm.invert(isolate().soil_db, C_DB, D_DB)  # numpy; the graph ends at soil_db


@cache
def inverting_line() -> Any:
    import numba

    @numba.njit(error_model="numpy", fastmath={"contract", "arcp", "nsz"})
    def line(soil_db, sm):  # type: ignore[no-untyped-def]
        for i in range(sm.size):
            sm[i] = (soil_db[i] - C_DB) / D_DB
        return sm

    return line


def in_numba(s: np.ndarray, v: np.ndarray, out: Isolated) -> Call:
    numba = pytest.importorskip("numba", reason="numba is not installed (extra [peers])")

    @numba.njit(error_model="numpy", fastmath={"contract", "arcp", "nsz"})
    def loop(s, v, soil_db, fraction, flags):  # type: ignore[no-untyped-def]
        for i in range(s.size):
            missing = np.isnan(s[i]) | np.isnan(v[i])
            outside = (s[i] < -60) | (s[i] > 10) | (v[i] < -1) | (v[i] > 1)
            vwc = max(N2 * v[i] * (v[i] - ROOT), ZERO)
            sigma0 = np.exp(s[i] * NEPER)
            left = sigma0 + VEG * np.expm1(-TAU * vwc)
            share = left / sigma0
            bad = missing | outside
            lost = (not bad) & (not share >= LEAST)
            soil_db[i] = NAN if bad | lost else TEN * np.log10(left) + vwc * (TAU / NEPER)
            fraction[i] = NAN if bad else share
            flags[i] = missing | outside << 1 | lost << 2 | ((not bad) & (vwc > DENSE)) << 3

    def run() -> Isolated:
        loop(s, v, *out)
        return out

    run()  # compiled before it is timed
    return run


def in_numexpr(s: np.ndarray, v: np.ndarray, out: Isolated) -> Call:
    ne = pytest.importorskip("numexpr", reason="numexpr is not installed (extra [peers])")
    ne.set_num_threads(1)
    constants = {"N2": N2, "ROOT": ROOT, "NEPER": NEPER, "TAU": TAU, "VEG": VEG, "nan": NAN}
    constants |= {"zero": ZERO, "one": ONE, "ten": TEN, "least": LEAST, "dense": DENSE}
    constants["per_db"] = TAU / NEPER
    bounds = {"s0": -60.0, "s1": 10.0, "v0": -1.0, "v1": 1.0}
    constants |= {name: np.float32(x) for name, x in bounds.items()}
    bad = "((s != s) | (v != v) | (s < s0) | (s > s1) | (v < v0) | (v > v1))"
    weight = dict(zip("abcd", np.uint16([1, 2, 4, 8]).astype(np.int32), strict=True))

    def run() -> Isolated:
        names = constants | {"s": s, "v": v}
        vwc = ne.evaluate("where(v > ROOT, N2 * v * (v - ROOT), zero * v)", names)
        vwc = np.where(v < 0, N2 * v * (v - ROOT), vwc) if (v < 0).any() else vwc
        left = ne.evaluate("exp(s * NEPER) + VEG * expm1(-TAU * vwc)", names | {"vwc": vwc})
        names |= {"vwc": vwc, "left": left}
        ne.evaluate(f"where({bad}, nan, left * exp(-s * NEPER))", names, out=out[1])
        names["f"] = out[1]
        ne.evaluate("where(f >= least, ten * log10(left) + vwc * per_db, nan)", names, out=out[0])
        ne.evaluate(
            "where((s != s) | (v != v), a, 0)"
            " + where((s < s0) | (s > s1) | (v < v0) | (v > v1), b, 0)"
            " + where(f < least, c, 0) + where((f == f) & (vwc > dense), d, 0)",
            names | weight,
            out=out[2],
            casting="unsafe",
        )
        return out

    return run


def in_torch(s: np.ndarray, v: np.ndarray, out: Isolated) -> Call:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra [train])")
    torch.set_num_threads(1)
    sigma0_db, ndvi = torch.from_numpy(s), torch.from_numpy(v)
    nan = torch.tensor(float("nan"))

    def run() -> Isolated:
        missing = sigma0_db.isnan() | ndvi.isnan()
        outside = (sigma0_db < -60) | (sigma0_db > 10) | (ndvi < -1) | (ndvi > 1)
        vwc = (float(N2) * ndvi * (ndvi - float(ROOT))).clamp_min(0)
        sigma0 = torch.exp(sigma0_db * float(NEPER))
        left = sigma0 + float(VEG) * torch.expm1(vwc * -float(TAU))
        share, bad = left / sigma0, missing | outside
        lost = ~bad & ~(share >= float(LEAST))
        soil_db = 10 * torch.log10(left) + vwc * float(TAU / NEPER)
        flags = missing.short() | outside.short() << 1 | lost.short() << 2
        flags |= (~bad & (vwc > float(DENSE))).short() << 3
        parts = torch.where(bad | lost, nan, soil_db), torch.where(bad, nan, share), flags
        return Isolated(*(part.numpy() for part in parts))

    return run


def in_onnx(s: np.ndarray, v: np.ndarray, out: Isolated) -> Call:
    session = onnx_nodes()
    feed = {"sigma0_db": s.reshape(-1, 1), "ndvi": v.reshape(-1, 1)}

    def run() -> Isolated:
        soil_db, fraction, *_ = session.run(None, feed)
        return Isolated(soil_db.ravel(), fraction.ravel(), out.flags)

    return run


@cache
def onnx_nodes() -> ort.InferenceSession:
    """Cut the isolation's part out of the complete graph of a model."""
    network = network_of(WCM, steps=1, dynamic=0, statics=0, members=1, hidden=2, sm_std=0.1)
    whole = onnx.shape_inference.infer_shapes(complete_graph(network, card_of(network)))
    outputs = ["soil_db_of_step", "soil_fraction", "backscatter_missing"]
    outputs += ["backscatter_outside", "soil_signal_lost", "dense_vegetation"]
    part = onnx.utils.Extractor(whole).extract_model(["sigma0_db", "ndvi"], outputs)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(
        part.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def best_chunk(
    make: Callable[[str, np.ndarray, np.ndarray], Call], name: str, s: np.ndarray, v: np.ndarray
) -> tuple[Call, int]:
    """Run ``make`` over pieces of the fastest size of CHUNKS, chosen on a part of the rows."""

    def in_pieces(size: int, rows: int) -> Call:
        pieces = [slice(at, min(at + size, rows)) for at in range(0, rows, size)]
        calls = [make(name, s[piece], v[piece]) for piece in pieces]

        def run() -> None:
            for call in calls:
                call()

        return run

    seconds = {}
    for size in CHUNKS:
        run = in_pieces(size, min(1_000_000, len(s)))
        run()
        start = time.perf_counter()
        run()
        seconds[size] = time.perf_counter() - start
    size = min(seconds, key=seconds.__getitem__)
    return in_pieces(size, len(s)), size


@pytest.mark.parametrize(("name", "rows"), CASES)
def test_isolate(benchmark: BenchmarkFixture, name: str, rows: int) -> None:
    benchmark.group = f"isolation, {rows:,} rows"
    benchmark.extra_info["items"] = rows
    s, v = observations(rows)
    if name.endswith(", best chunk"):  # the same calls, whose outputs the whole has shown
        run, benchmark.extra_info["chunk"] = best_chunk(peer, name.split(",")[0], s, v)
        benchmark.pedantic(run, rounds=3, warmup_rounds=1)
        return
    run = peer(name, s, v)
    if name != "copy":
        some = slice(0, 200_000)
        soil_db, fraction, flags = (part[some] for part in run())
        twin = wcm.isolate(WCM, s[some], v[some])
        clear = ~(np.abs(twin.soil_fraction - WCM.min_soil_fraction) < 1e-5)
        if name == "onnx nodes":  # what has no number is left out further on in the graph
            clear &= np.isfinite(twin.soil_db)
            fraction = np.where(np.isnan(twin.soil_fraction), np.nan, fraction)
        else:
            assert_array_equal(flags[clear], twin.flags[clear])
        assert_allclose(soil_db[clear], twin.soil_db[clear], rtol=0, atol=2e-4)
        assert_allclose(fraction, twin.soil_fraction, rtol=0, atol=1e-4)
    try:
        if rows > 1_000_000:
            benchmark.pedantic(run, rounds=5, warmup_rounds=1)
        else:
            benchmark(run)
    finally:
        fastest_tier()


@pytest.mark.parametrize("name", [*PEERS, *CHUNKED])
def test_invert(benchmark: BenchmarkFixture, name: str) -> None:
    rows = ROWS[-1]
    benchmark.group = f"inversion, {rows:,} rows"
    benchmark.extra_info["items"] = rows
    s, v = observations(rows)
    if name.endswith(", best chunk"):
        run, benchmark.extra_info["chunk"] = best_chunk(inverting, name.split(",")[0], s, v)
    else:
        run = inverting(name, s, v)
        some = slice(0, 200_000)
        twin = wcm.isolate(WCM, s[some], v[some])
        clear = np.isfinite(twin.soil_db)
        clear &= np.abs(twin.soil_fraction - WCM.min_soil_fraction) > 1e-5
        expected = wcm.invert(twin.soil_db, C_DB, D_DB)
        assert_allclose(run()[some][clear], expected[clear], rtol=0, atol=1e-5)
    try:
        benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    finally:
        fastest_tier()
