"""Measure lazy retrieval on 1 and 2 dask workers and extrapolate to a continent.

    python benchmarks/cluster.py MODEL [--side 128] [--dates 300]

Prints retrievals per second with one and two workers, for the whole cube and for half of it: the
rate may be extrapolated only if both agree. Then prints bytes, floating point operations, chunks
and worker hours for Australia at 100 m, every 12 days for ten years. Worker hours follow from the
workers' processor time, which a busy machine does not change. Give --dates 300: a rate at few dates
says nothing about a long stack.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

import numpy as np

AUSTRALIA_KM2 = 7.69e6
YEARS, REVISIT_DAYS = 10, 12
CHUNK = 64


def cube(model: Any, side: int, dates: int) -> Any:
    """Draw random columns as a dask-backed Dataset (time, y, x), computed in the workers."""
    import dask.array
    import xarray

    centre = {"vh_db": -16.0, "vv_db": -10.0, "ndvi": 0.4, "angle_deg": 39.0}
    names = [f"{model.card.polarisation}_db", *model.card.inputs.columns]
    state = dask.array.random.default_rng(1)
    shape, chunks = (dates, side, side), (dates, CHUNK, CHUNK)
    return xarray.Dataset(
        {
            name: (
                ("time", "y", "x"),
                (centre.get(name, 20.0) + 0.05 * state.standard_normal(shape, chunks=chunks))
                .astype(np.float32),
            )
            for name in dict.fromkeys(names)
            if not name.startswith("doy_")
        },
        coords={
            "time": np.datetime64("2016-01-01", "ns")
            + np.arange(dates) * np.timedelta64(REVISIT_DAYS, "D")
        },
    )  # fmt: skip


def flops_per_retrieval(card: Any) -> float:
    """Count the LSTM's multiplications and additions, 2 x 4H (F + H) per step and member."""
    features = card.layout.channels
    return float(card.members * card.steps * 8 * card.hidden * (features + card.hidden))


def main() -> None:
    import xarray

    import kgsm_infer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--dates", type=int, default=300)
    options = parser.parse_args()
    model = kgsm_infer.load(options.model)
    with tempfile.TemporaryDirectory() as folder:
        cube(model, options.side, options.dates).to_zarr(f"{folder}/in.zarr", zarr_format=2)
        stack = xarray.open_zarr(f"{folder}/in.zarr")
        rate = measure(options.model, stack, folder)
    extrapolate(model.card, len(stack.data_vars), rate)


def measure(model: str, stack: Any, folder: str) -> float:
    """Print retrievals per second, Zarr to Zarr, by workers and part of the cube.

    Returns the retrievals per second of the workers' processor time, of two workers.
    """
    from distributed import Client, LocalCluster

    from kgsm_infer.maps.lazy import retrieve

    dates, side = stack.sizes["time"], stack.sizes["x"]
    rates = {}
    for workers in (1, 2):
        with (
            LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as local,
            Client(local) as client,
        ):
            warm = stack.isel(y=slice(0, CHUNK), x=slice(0, CHUNK * workers))
            retrieve(model, warm, every=True).sm.mean().compute()  # every worker loads
            for part, height in (("half", side // 2), ("whole", side)):
                lazy = retrieve(model, stack.isel(y=slice(0, height)), every=True)
                began, used = time.perf_counter(), sum(client.run(time.process_time).values())
                lazy.to_zarr(f"{folder}/out.zarr", mode="w", zarr_format=2)
                count = height * side * dates
                rates[workers, part] = count / (time.perf_counter() - began)
                used = sum(client.run(time.process_time).values()) - used
                print(
                    f"{workers} worker(s), {part:>5}: {rates[workers, part]:>9,.0f} retrievals/s, "
                    f"{count / used:>9,.0f} per second of processor time"
                )
    ratio, linear = (rates[2, "whole"] / rates[other] for other in ((1, "whole"), (2, "half")))
    print(f"2 workers / 1 worker: {ratio:.2f}; whole / half of the cube: {linear:.2f}")
    return count / used


def extrapolate(card: Any, layers: int, rate: float) -> None:
    """Print the cost of a continent at ``rate`` retrievals per second of one worker."""
    pixels = AUSTRALIA_KM2 * 100  # of 100 m
    dates = round(YEARS * 365.25 / REVISIT_DAYS)
    total = pixels * dates
    print(
        f"Australia at 100 m, {dates} dates: {pixels:.3g} pixels, {total:.3g} retrievals,\n"
        f"  {total * 4 * layers / 1e12:.1f} TB in ({layers} float32 layers), "
        f"{total * 14 / 1e12:.1f} TB out, {total * flops_per_retrieval(card):.2g} flop,\n"
        f"  {pixels / 256**2:,.0f} chunks of 256 x 256 pixels and all dates "
        f"({256**2 * dates * 4 * layers / 1e6:.0f} MB in each),\n"
        f"  {total / rate / 3600:,.0f} worker hours of processor time"
    )


if __name__ == "__main__":
    main()
