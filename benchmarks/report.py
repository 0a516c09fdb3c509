"""Write a Markdown table and a figure of one benchmark run, as ratios.

    python -m pytest benchmarks --benchmark-json=bench.json
    python benchmarks/report.py bench.json figure.png [docs/performance.md]

Ratios are of the minimum times of one run, per row or window, which a busy machine disturbs least.
A time does not carry over to another machine, so each is printed with its ratio. With a page, the
tables replace those of the previous run between two marks; the text around them is kept.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Prefixes of kgsm's own engines. The fastest of them in a group is 1.
OURS = ("c ", "native")
#: Marks around the tables of a page.
MARKS = ("<!-- tables of the run -->", "<!-- end of tables -->")


@dataclass(frozen=True)
class Timed:
    """Minimum time per row, window or process, in seconds; peak_mb where measured."""

    seconds: float
    peak_mb: int | None


def groups(run: dict[str, Any]) -> dict[str, dict[str, Timed]]:
    """Return group -> name -> time, fastest first; ``scaling`` stays in order of size."""
    found: dict[str, dict[str, Timed]] = defaultdict(dict)
    for item in run["benchmarks"]:
        extra = item["extra_info"]
        name = extra.get("label") or item["params"]["name"]
        seconds = item["stats"]["min"] / extra["items"]
        found[item["group"]][name] = Timed(seconds, extra.get("peak_mb"))
    for group, times in found.items():
        if not group.startswith("scaling"):
            found[group] = dict(sorted(times.items(), key=lambda pair: pair[1].seconds))
    return dict(found)


def ratios(times: dict[str, Timed]) -> dict[str, float]:
    """Return each time as a multiple of kgsm's fastest."""
    own = min(time.seconds for name, time in times.items() if name.startswith(OURS))
    return {name: time.seconds / own for name, time in times.items()}


def each(time: Timed) -> str:
    """Format the time in a fitting unit, and the memory."""
    units = [("ms", 1e-3, 0), ("µs", 1e-6, 2), ("ns", 1e-9, 2)]
    unit, size, digits = next((u for u in units if time.seconds >= u[1]), units[-1])
    peak = f", peak {time.peak_mb} MB" if time.peak_mb else ""
    return f"{time.seconds / size:.{digits}f} {unit}{peak}"


def markdown(run: dict[str, Any]) -> str:
    """Format the machine and one table per group."""
    cpu = run["machine_info"]["cpu"]
    lines = [
        f"{cpu.get('brand_raw', cpu['arch'])}, {cpu['count']} cores, Python "
        f"{run['machine_info']['python_version']}, {run['datetime'][:10]}",
        "",
        *_kernels(run["machine_info"]),
    ]
    for group, times in groups(run).items():
        lines += [f"### {group}", "", "| how | times as long | each |", "| --- | ---: | ---: |"]
        lines += [f"| {n} | {ratio:.2f} | {each(times[n])} |" for n, ratio in ratios(times).items()]
        lines.append("")
    return "\n".join(lines)


def _kernels(machine: dict[str, Any]) -> list[str]:
    """Format the BLAS and tier; sgemm is a bound only if no environment variable pins the BLAS."""
    told = [f"BLAS: {'; '.join(machine.get('blas', [])) or 'not known'}."]
    if machine.get("pins"):
        pins = ", ".join(f"{name}={value}" for name, value in machine["pins"].items())
        told.append(f"**Pinned by the environment: {pins}; sgemm is not a bound here.**")
    told.append(f"kgsm: tier {machine.get('kgsm_tier', 'not known')}.")
    return [" ".join(told), ""]


def figure(found: dict[str, dict[str, Timed]], path: Path) -> None:
    """Draw the ratios as bars, one panel per group, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = 3
    rows = -(-len(found) // columns)
    shown, panels = plt.subplots(
        rows, columns, figsize=(15, 2.4 * rows), sharex=True, squeeze=False, layout="constrained"
    )
    for panel in panels.flat[len(found) :]:
        panel.set_visible(False)
    for panel, (group, times) in zip(panels.flat, found.items(), strict=False):
        values = ratios(times)
        colours = ["tab:blue" if name.startswith(OURS) else "0.7" for name in values]
        panel.barh(list(values), list(values.values()), color=colours)
        panel.invert_yaxis()
        panel.set_xscale("log")
        panel.axvline(1, color="k", lw=0.8)
        panel.set_title(group, loc="left", fontsize=9)
        panel.tick_params(labelsize=8, labelbottom=True)
    shown.supxlabel("times as long as kgsm's fastest in the group (one run); blue: kgsm")
    shown.savefig(path, dpi=80)


def put_into(page: Path, tables: str, marks: tuple[str, str] = MARKS) -> None:
    """Replace the text between two marks of ``page``."""
    before, _, rest = page.read_text().partition(marks[0])
    _, _, after = rest.partition(marks[1])
    if not after:
        sys.exit(f"{page} lacks {marks[0]} … {marks[1]}")
    page.write_text(f"{before}{marks[0]}\n\n{tables}\n{marks[1]}{after}")


def main() -> None:
    """Run ``report.py RESULT.json FIGURE.png [PAGE.md]``."""
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: report.py RESULT.json FIGURE.png [PAGE.md]")
    result, picture, *page = map(Path, sys.argv[1:])
    run = json.loads(result.read_text())
    print(markdown(run))
    figure(groups(run), picture)
    if page:
        put_into(page[0], markdown(run))


if __name__ == "__main__":
    main()
