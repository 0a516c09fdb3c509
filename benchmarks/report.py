"""A Markdown table, and a figure, of one run of the benchmarks, in ratios.

    python -m pytest benchmarks --benchmark-json=bench.json
    python benchmarks/report.py bench.json [figure.png]

Ratios are of the least times of one run, so that a busy machine disturbs them least; a time
alone says nothing about another machine and is not printed without its ratio.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

#: What each group is measured in: the fastest of these in it is 1.
OURS = ("c ", "native")


def groups(path: Path) -> dict[str, dict[str, float]]:
    """Group -> name -> least seconds."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for item in json.loads(path.read_text())["benchmarks"]:
        found[item["group"]][item["params"]["name"]] = item["stats"]["min"]
    return dict(found)


def peaks(path: Path) -> dict[str, int]:
    """Name -> largest resident set in MB, of what was measured in a process of its own."""
    found = {}
    for item in json.loads(path.read_text())["benchmarks"]:
        if "peak_mb" in item["extra_info"]:
            found[item["params"]["name"]] = item["extra_info"]["peak_mb"]
    return found


def ratios(seconds: dict[str, float]) -> dict[str, float]:
    """How many times as long as kgsm's fastest each takes, fastest first."""
    own = min(value for name, value in seconds.items() if name.startswith(OURS))
    by_ratio = sorted(seconds, key=seconds.__getitem__)
    return {name: seconds[name] / own for name in by_ratio}


def per_item(group: str, seconds: float) -> str:
    """Nanoseconds per row or microseconds per window."""
    count = int(group.split()[-2].replace(",", ""))  # "..., 4,096 windows"
    each = seconds / count
    if each > 1e-3:
        return f"{each * 1e3:.0f} ms"
    return f"{each * 1e9:.2f} ns" if each < 1e-6 else f"{each * 1e6:.2f} µs"


def markdown(found: dict[str, dict[str, float]], memory: dict[str, int]) -> str:
    """One table per group; peak memory beside what ran in a process of its own."""
    lines = []
    for group, seconds in found.items():
        lines += [f"### {group}", "", "| how | times as long | each |", "| --- | ---: | ---: |"]
        for name, ratio in ratios(seconds).items():
            peak = f", peak {memory[name]} MB" if name in memory else ""
            lines.append(f"| {name} | {ratio:.2f} | {per_item(group, seconds[name])}{peak} |")
        lines.append("")
    return "\n".join(lines)


def figure(found: dict[str, dict[str, float]], path: Path) -> None:
    """The same as bars, one panel per group, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    height = sum(len(seconds) for seconds in found.values()) * 0.25 + len(found) * 0.8
    sizes = [len(seconds) for seconds in found.values()]
    shown, panels = plt.subplots(
        len(found), 1, figsize=(8, height), sharex=True, squeeze=False, height_ratios=sizes
    )
    for panel, (group, seconds) in zip(panels[:, 0], found.items(), strict=True):
        values = ratios(seconds)
        colours = ["tab:blue" if name.startswith(OURS) else "0.7" for name in values]
        panel.barh(list(values), list(values.values()), color=colours)
        panel.invert_yaxis()
        panel.set_xscale("log")
        panel.axvline(1, color="k", lw=0.8)
        panel.set_title(group, loc="left", fontsize=9)
        panel.tick_params(labelsize=8)
    panels[-1, 0].set_xlabel("times as long as kgsm's fastest tier (one thread, one run)")
    shown.tight_layout()
    shown.savefig(path, dpi=150)


def main() -> None:
    """``report.py RESULT.json [FIGURE.png]``."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: report.py RESULT.json [FIGURE.png]")
    found = groups(Path(sys.argv[1]))
    print(markdown(found, peaks(Path(sys.argv[1]))))
    if len(sys.argv) == 3:
        figure(found, Path(sys.argv[2]))


if __name__ == "__main__":
    main()
