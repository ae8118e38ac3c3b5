"""RESULTS.md, from the entries kept by `record`: targets, every benchmark's part, machine and versions."""

from collections.abc import Mapping
from typing import Any

from benchmarks import (
    evaluation,
    loops,
    memory,
    projection,
    prox,
    roofline,
    scaling,
    shrink,
    sparsity,
    start,
    steps,
)
from benchmarks.record import Entries, figures_of
from benchmarks.targets import TARGETS, Target
from benchmarks.timing import THREADS
from benchmarks.words import Measured, table, wrapped

SECTIONS = (steps, evaluation, prox, shrink, projection, memory, roofline, sparsity, loops, scaling, start)
PICTURES = (sparsity, scaling)

TITLE = "# What it costs"
HOW = (
    "Written by `python -m benchmarks` from `benchmarks/results/benchmarks.json`; nothing here is typed by hand.",
    f"{THREADS} threads for the BLAS and for each framework, float32 unless said otherwise. Sides that are "
    "compared run in one process and take turns, so that whatever else the machine does hits them alike; times "
    "are medians over the turns, ratios the median of the ratios of neighbouring turns, in brackets their "
    "quartiles. As in training, glibc is told to keep the memory of freed arrays "
    "(`issref.training.process.tune_malloc`), and OpenBLAS to let its idle threads sleep "
    "(`issref.openblas`); the frameworks run under the same settings, and PyTorch gains by both.",
)


def written(entries: Entries) -> str:
    """The whole page."""
    measured = figures_of(entries)
    sections = [text for module in SECTIONS if (text := module.section(measured))]
    return "\n\n".join([TITLE, *map(wrapped, HOW), targets(measured), *sections, provenance(entries)]) + "\n"


def targets(measured: Measured) -> str:
    """The table of targets, and what limits those that are missed."""
    rows, missed = [], []
    for target in TARGETS:
        figures = measured.get(target.benchmark, {})
        rows.append([f"`{target.name}`", target.what, target.wanted(), *judged(target, figures)])
        if target.name in figures and not target.met(figures[target.name]):
            missed.append(f"- `{target.name}`: {target.limits(measured)}")
    text = ["## What it must show", "", table(["figure", "what", "wanted", "measured", ""], rows, words=5)]
    if missed:
        text += ["", "What limits those that are missed:", "", *missed]
    return "\n".join([*text, "", "## What was measured"])


def judged(target: Target, figures: Mapping[str, float]) -> tuple[str, str]:
    """The value with its quartiles, and whether the target is met."""
    if target.name not in figures:
        return "not measured", "-"
    value = figures[target.name]
    low, high = (figures.get(f"{target.name}/{side}") for side in ("low", "high"))
    spread = "" if low is None or high is None else f" ({target.spell(low)} to {target.spell(high)})"
    return target.spell(value) + spread, "met" if target.met(value) else "missed"


def provenance(entries: Entries) -> str:
    """When and where each benchmark ran, and with which versions."""
    if not entries:
        return "Nothing has been measured yet."
    machines = list(dict.fromkeys(machine(entry["versions"]) for entry in entries.values()))
    rows = [
        [
            f"`{name}`",
            entry["date"],
            f"`{entry['command']}`",
            f"{entry['seconds']:g}",
            f"{entry['others']:g}",
            str(machines.index(machine(entry["versions"])) + 1),
        ]
        for name, entry in entries.items()
    ]
    head = ["benchmark", "date", "command", "seconds", "cores busy with others", "machine"]
    listed = [f"{number}. {words}" for number, words in enumerate(machines, start=1)]
    return "\n".join(["### Machine, versions, moment", "", table(head, rows, words=3), "", *listed])


def machine(versions: Mapping[str, Any]) -> str:
    """The machine, Python, the BLAS and the packages, in one line."""
    packages = ", ".join(
        f"{name} {versions.get(name, 'not installed')}"
        for name in ("numpy", "numba", "torch", "onnxruntime", "onnx", "scipy")
    )
    return (
        f"{versions['processor']}, {versions['machine']}; Python {versions['python']}; {packages}; "
        f"BLAS {'; '.join(versions['blas'])}"
    )
