"""Time the LSTM and whole retrievals on one thread: 4,096 windows of 10 steps and 13 inputs.

Run with ``make bench``. ``LSTM`` goes from the packed tile to soil moisture. Each peer runs in the
fastest of several chunk sizes. ``sgemm`` only multiplies the matrices of all steps. The native
engine omits R h of the first step (h is 0) and the statics of all steps but one, 15 to 20 % of
these products, so it can be faster.

``retrieval`` goes from raw observations to soil moisture, with isolation, scaling and flags: the
complete graph in one onnxruntime call, and ``Model.retrieve`` on both engines.

``scaling`` repeats it on both engines with longer windows, wider layers and more windows, in time
per window.

Every output is compared with onnxruntime's before it is timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from bench_sizes import full_or
from made_models import card_of, network_of, write_pair
from on_engines import TIERS, fastest_tier, load_kernels
from pytest_benchmark.fixture import BenchmarkFixture

from kgsm_infer.kernels.wcm import Wcm
from kgsm_infer.model.model import load
from kgsm_infer.model.onnx_reader import read_model_file
from kgsm_infer.model.weights import read_weights

N, STEPS, DYNAMIC, STATICS = full_or(64, 4096), 10, 5, 5
ROUNDS = full_or(1, 40)  # the minimum of 40 is hardly disturbed by other work on the machine
CHUNKS = full_or([16, N], [16, 32, 64, 128, 256, 512, 1024, N])
HIDDEN = full_or([32], [32, 64, 128])
SCALES = full_or(
    {"T": (1, 5), "H": (16, 32), "N": (1, 16)},
    {"T": (1, 5, 10, 20, 40), "H": (16, 32, 64, 128, 256), "N": (1, 16, 256, 4096, 65536)},
)
PEERS = [
    *(f"native {tier}" for tier in TIERS),
    "onnxruntime, core, one call",
    "onnxruntime, core, best chunk",
    "torch, best chunk",
    "openvino, best chunk",
    "tract, best chunk",
    "sgemm",
]
Run = Callable[[np.ndarray], np.ndarray]


def written(
    folder: Path, *, hidden: int, steps: int = STEPS
) -> tuple[dict[str, Path], torch.nn.Module]:
    """Write both files of a network of this size with random weights."""
    network = network_of(
        Wcm(a=0.02),
        steps=steps,
        dynamic=DYNAMIC,
        statics=STATICS,
        members=1,
        hidden=hidden,
        sm_std=0.1,
    )
    for weights in network.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=0.15)
    return write_pair(folder, network, card_of(network)), network


@pytest.fixture(scope="module", params=HIDDEN, ids=lambda hidden: f"hidden{hidden}")
def files(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, dict[str, Path], torch.nn.Module]:
    folder = tmp_path_factory.mktemp("bench")
    return request.param, *written(folder, hidden=request.param)


def tile_of(channels: int) -> np.ndarray:
    tile = np.random.default_rng(0).normal(size=(STEPS, N, channels)).astype(np.float32)
    at = slice(1 + DYNAMIC, 1 + DYNAMIC + STATICS)
    tile[..., at] = tile[0, :, at]
    tile[..., -1] = 1
    return tile


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def in_chunks(run: Run, size: int) -> Run:
    return lambda tile: np.concatenate(
        [run(np.ascontiguousarray(tile[:, at : at + size])) for at in range(0, N, size)]
    )


def best_chunk(run: Run, tile: np.ndarray) -> tuple[Run, int]:
    """Run in the fastest size of CHUNKS, each tried three times."""
    seconds = {}
    for size in CHUNKS:
        call = in_chunks(run, size)
        call(tile)
        for _ in range(3):
            start = time.perf_counter()
            call(tile)
            seconds[size] = min(seconds.get(size, np.inf), time.perf_counter() - start)
    size = min(seconds, key=seconds.__getitem__)
    return in_chunks(run, size), size


def runner(name: str, paths: dict[str, Path], network: torch.nn.Module) -> Run:
    """Return a function from tile (T, N, F) to soil moisture (N,) in the named library."""
    if name.startswith("native "):
        kernels = load_kernels(name.removeprefix("native "))
        weights = read_weights(read_model_file(paths["core"]))
        return kernels.lstm_runner(weights, 1 + DYNAMIC, STATICS)
    if name.startswith("onnxruntime"):
        core = session(paths["core"])
        return lambda tile: core.run(["sm"], {"tile": tile})[0]
    if name.startswith("torch"):
        torch.set_num_threads(1)
        weights = network.members.of(0)
        lstm = torch.nn.LSTM(network.layout.channels, network.hidden)
        head = torch.nn.Linear(network.hidden, 1)
        lstm.load_state_dict({name: weights[name] for name in lstm.state_dict()})
        head.load_state_dict({name: weights[name] for name in head.state_dict()})

        def in_torch(tile: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                _, (hidden, _) = lstm(torch.from_numpy(tile))
                return (head(hidden[0])[:, 0] * network.scale.std + network.scale.mean).numpy()

        return in_torch
    if name.startswith("tract"):
        return in_tract(paths["core"])
    ov = pytest.importorskip("openvino", reason="openvino is not installed (extra [peers])")
    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    settings["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = ov.Core().compile_model(str(paths["core"]), "CPU", settings)
    return lambda tile: compiled({"tile": tile})["sm"]


def in_tract(path: Path) -> Run:
    """Run in tract, which compiles a model for each input size."""
    tract = pytest.importorskip("tract", reason="tract is not installed (extra [peers])")

    @cache
    def compiled(n: int, channels: int) -> Any:
        model = tract.onnx().load(str(path))
        model.set_input_fact(0, f"{STEPS},{n},{channels},f32")
        model.analyse()
        return model.into_model().into_runnable()

    return lambda tile: compiled(*tile.shape[1:]).run([tile])[0].to_numpy()


def observations(n: int = N, steps: int = STEPS) -> dict[str, np.ndarray]:
    """Draw the inputs of the complete graph."""
    rng = np.random.default_rng(0)
    feed = {
        "sigma0_db": rng.uniform(-17, -8, (n, steps)),
        "ndvi": rng.uniform(0.1, 0.7, (n, steps)),
        "day": np.tile(12.0 * np.arange(steps), (n, 1)),
        "features": rng.normal(0.3, 0.2, (n, steps, DYNAMIC)),
        "statics": rng.normal(5, 2, (n, STATICS)),
    }
    return {name: values.astype(np.float32) for name, values in feed.items()}


def sgemm(hidden: int, channels: int) -> Callable[[], None]:
    """Multiply the matrices of the LSTM in the fastest chunk size, and do nothing else."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(channels + hidden, 4 * hidden)).astype(np.float32)

    def in_pieces(size: int) -> Callable[[], None]:
        x = rng.normal(size=(size, channels + hidden)).astype(np.float32)
        out = np.empty((size, 4 * hidden), np.float32)

        def run() -> None:
            for _ in range(STEPS * N // size):
                np.matmul(x, w, out=out)

        return run

    seconds = {}
    for size in CHUNKS:
        run = in_pieces(size)
        run()
        for _ in range(3):
            start = time.perf_counter()
            run()
            seconds[size] = min(seconds.get(size, np.inf), time.perf_counter() - start)
    return in_pieces(min(seconds, key=seconds.__getitem__))


@pytest.mark.parametrize("name", PEERS)
def test_lstm(
    benchmark: BenchmarkFixture,
    files: tuple[int, dict[str, Path], torch.nn.Module],
    name: str,
) -> None:
    hidden, paths, network = files
    benchmark.group = f"LSTM, hidden {hidden}, {N:,} windows"
    benchmark.extra_info["items"] = N
    channels = read_model_file(paths["core"]).card.layout.channels
    assert channels == 13
    if name == "sgemm":
        benchmark.pedantic(sgemm(hidden, channels), rounds=ROUNDS, warmup_rounds=1)
        return
    tile = tile_of(channels)
    run = runner(name, paths, network)
    if "chunk" in name:
        run, benchmark.extra_info["chunk"] = best_chunk(run, tile)
    try:
        expected = session(paths["core"]).run(["sm"], {"tile": tile})[0]
        assert np.ptp(expected) > 0.02
        np.testing.assert_allclose(run(tile), expected, rtol=0, atol=1e-5)
        benchmark.pedantic(run, args=(tile,), rounds=ROUNDS, warmup_rounds=1)
    finally:
        fastest_tier()


@pytest.mark.parametrize(
    "name", ["native", "onnxruntime, core", "onnxruntime, complete graph, one call"]
)
def test_retrieval(
    benchmark: BenchmarkFixture,
    files: tuple[int, dict[str, Path], torch.nn.Module],
    name: str,
) -> None:
    hidden, paths, _ = files
    benchmark.group = f"retrieval, hidden {hidden}, {N:,} windows"
    benchmark.extra_info["items"] = N
    feed = observations()
    whole = session(paths["complete"])

    def in_graph() -> np.ndarray:
        return whole.run(["sm"], feed)[0]

    given = {name: values for name, values in feed.items() if name != "day"}
    model = load(paths["core"], engine=name.split(",")[0])

    def by_model() -> np.ndarray:
        return model.retrieve(**given, days=feed["day"][0]).sm

    np.testing.assert_allclose(by_model(), in_graph(), rtol=0, atol=1e-5)
    run = in_graph if "complete" in name else by_model
    benchmark.pedantic(run, rounds=ROUNDS, warmup_rounds=1)


@pytest.mark.parametrize("name", ["native", "onnxruntime"])
@pytest.mark.parametrize(
    ("what", "size"),
    [(what, size) for what, sizes in SCALES.items() for size in sizes],
)
def test_scaling(
    benchmark: BenchmarkFixture, tmp_path: Path, name: str, what: str, size: int
) -> None:
    sizes = {"T": STEPS, "H": 64, "N": N} | {what: size}
    steps, hidden, n = sizes.values()
    rest = ", ".join(f"{key} {value:,}" for key, value in sizes.items() if key != what)
    benchmark.group = f"scaling with {what}, at {rest}"
    benchmark.extra_info |= {"items": n, "label": f"{name}, {what} {size:,}"}
    paths, _ = written(tmp_path, hidden=hidden, steps=steps)
    feed = observations(n, steps)
    given = {key: values for key, values in feed.items() if key != "day"} | {"days": feed["day"][0]}
    model = load(paths["core"], engine=name)
    benchmark.pedantic(model.retrieve, kwargs=given, rounds=full_or(1, 8), warmup_rounds=1)
