"""Measure the peak memory and rate of ``kgsm-infer map`` on scenes of any size.

    python benchmarks/map_memory.py MODEL [--engine native] [--side 800 --side 5000] [--threads 2]

Makes scenes of random pixels (removed afterwards), maps each in a separate process, and prints
its peak resident memory, its rate and the model's share of the CPU time. The rest is reading,
writing, compressing and checking the output.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

DATES = [str(np.datetime64("2024-01-01") + 12 * i) for i in range(10)]


def write_scene(folder: Path, side: int, steps: int, names: list[str]) -> Path:
    """Write random layers of side x side pixels in 512 x 512 tiles, window by window."""
    import rasterio

    rng = np.random.default_rng(1)
    text = []
    centre = {"vh_db": -16.0, "vv_db": -10.0, "ndvi": 0.4, "angle_deg": 39.0}
    for name in names:
        for date in DATES[:steps]:
            path = folder / name / f"{date}.tif"
            path.parent.mkdir(exist_ok=True)
            with rasterio.open(
                path, "w", driver="GTiff", dtype="float32", count=1, width=side, height=side,
                crs="EPSG:32631", transform=rasterio.Affine(10, 0, 6e5, 0, -10, 5.65e6),
                tiled=True, blockxsize=512, blockysize=512,
            ) as dataset:  # fmt: skip
                for row in range(0, side, 512):
                    shape = (min(512, side - row), side)
                    values = centre.get(name, 20.0) + 0.05 * rng.standard_normal(shape, np.float32)
                    window = rasterio.windows.Window(0, row, side, shape[0])
                    dataset.write(values, 1, window=window)
        text += [f"[layers.{name}]", f'files = "{name}/*.tif"']
    (folder / "scene.toml").write_text("\n".join(text) + "\n")
    return folder / "scene.toml"


def measure(model_path: str, engine: str, scene_path: str, threads: int) -> dict[str, float]:
    """Map in this process; return peak memory, rate and the engine's share of the CPU time."""
    import kgsm_infer
    from kgsm_infer.maps.options import Execution
    from kgsm_infer.maps.run import map_scene
    from kgsm_infer.scenes.manifest import read_scene

    class Timed(kgsm_infer.Model):
        def over(self, observed: Any, **options: Any) -> Any:
            began = time.thread_time()
            retrieve = super().over(observed, **options)
            inside.append(time.thread_time() - began)

            def timed(*arguments: Any) -> Any:
                began = time.thread_time()
                result = retrieve(*arguments)
                inside.append(time.thread_time() - began)
                return result

            return timed

    inside: list[float] = []
    plain, scene = kgsm_infer.load(model_path, engine=engine), read_scene(scene_path)
    model = Timed(**{item.name: getattr(plain, item.name) for item in fields(plain)})
    wall, cpu = time.perf_counter(), time.process_time()
    counts = map_scene(
        model, scene, Path(scene_path).with_suffix(".tif"), execution=Execution(threads=threads)
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "pixels": counts.pixels,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "rate": counts.pixels / wall,
        "engine": sum(inside) / cpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--side", type=int, action="append")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.model, options.engine, options.one, options.threads)))
        return
    import kgsm_infer

    model = kgsm_infer.load(options.model)
    names = list(dict.fromkeys([f"{model.card.polarisation}_db", *model.card.inputs.columns]))
    names = [name for name in names if not name.startswith("doy_")]
    print("pixels      peak MB   pixels/s   share of the CPU time in Model.estimate", flush=True)
    for side in options.side or [800, 5000]:
        with tempfile.TemporaryDirectory() as folder:
            scene = write_scene(Path(folder), side, model.card.steps, names)
            command = [sys.executable, __file__, options.model, "--one", str(scene)]
            command += ["--engine", options.engine]
            run = subprocess.run(
                [*command, "--threads", str(options.threads)],
                check=True,
                capture_output=True,
                text=True,
            )
            got = json.loads(run.stdout)
            size, rate = f"{got['pixels']:,}", f"{got['rate']:,.0f}"
            print(f"{size:<11} {got['peak_mb']:<9} {rate:<10} {got['engine']:.0%}", flush=True)


if __name__ == "__main__":
    main()
