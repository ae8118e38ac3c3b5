"""The part of docs/results.md on the settings that were tried on a GPU (`benchmarks.gpu`) before long runs."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.kept import RESULTS, rows
from benchmarks.words import table

FOUND, PICTURE = RESULTS / "search.json", "search.png"
COMPARED = 35  # epochs after which the figure compares runs
LONG = 20  # epochs of a run that the table shows
EPOCH, TRAIN, VALID, ALIVE = 0, 1, 2, slice(3, None)  # of a row
COLUMNS = (
    "network", "strength", "keep", "learning rate", "units left", "epochs", "training", "lowest", "test",
)  # fmt: skip

Run = dict[str, Any]


def runs() -> list[Run]:
    """Return the runs, by network and by the lowest validation perplexity of a run."""
    found = json.loads(FOUND.read_text())["runs"]
    return sorted(found, key=lambda run: (run["preset"], min(row[VALID] for row in run["rows"])))


def section() -> str:
    """Return the block `search` of docs/results.md."""
    found = runs()
    machine = json.loads(FOUND.read_text())["machine"]
    text = (
        f"On a GPU ({machine}), where an epoch takes seconds, {len(found)} settings were tried. The program "
        "was an earlier form of `benchmarks/gpu.py` that trained up to twelve networks in turns and could "
        "change strength and keep probability after any epoch; the present form has only run on a CPU. "
        "Settings with one keep probability, whose strength changes once, can be tried again with it. All "
        "runs have seed 0 and clip 5. With `iss-large` they begin after one epoch without penalty at rate "
        "0.5, which is not counted: *from epoch 6* means after five more. *Staircase*: the rate is divided "
        "by 10 after each third of the epochs. Perplexities are of 20 rows of text; that of training "
        "includes dropout. Every run was stopped before its last epoch, when it did not improve any more, "
        "when others did better, or when the time on the machine was over: *lowest*, the lowest validation "
        "perplexity so far, is an upper bound of the whole run's. Compare runs at the same epoch only, as "
        "in the figure, and on the same learning rates. *test*: read once, towards a run's end."
    )
    picture = f"![Validation perplexity over the strength after pruning](../benchmarks/results/{PICTURE})"
    long = [run for run in found if len(run["rows"]) >= LONG]
    short = (
        f"{len(found) - len(long)} more runs were stopped before epoch {LONG} (`benchmarks/results/search.json`)."
    )
    return "\n\n".join([text, _agreement(), picture, table(COLUMNS, map(_cells, long), words=5), short])


def _agreement() -> str:
    """Compare the run that has the settings of a whole run of train_ptb, which it names, with that run."""
    (one,) = (run for run in runs() if "train_ptb" in run)
    last = one["rows"][-1]
    ours = rows(RESULTS / "full" / one["train_ptb"])[last[EPOCH] - 1]
    reached = f"{ours['train_perplexity']:.2f} and {ours['valid_perplexity']:.2f}"
    return (
        f"{one['train_ptb']}, on two cores, after {last[EPOCH]} epochs: {_units(ours['alive'].values())} units, "
        f"training and validation perplexity {reached}. The same settings on the GPU: "
        f"{_units(last[ALIVE])} units, {last[TRAIN]:.2f} and {last[VALID]:.2f}."
    )


def _cells(run: Run) -> list[str]:
    last = run["rows"][-1]
    return [
        f"`{run['preset']}`",
        phases(run["strength"]),
        phases(run["keep"]),
        rates(run["schedule"]),
        _units(last[ALIVE]),
        f"{last[EPOCH]} of {run['epochs']}",
        f"{last[TRAIN]:.2f}",
        f"{min(row[VALID] for row in run['rows']):.2f}",
        f"{run['test']:.2f}" if run["test"] else "",
    ]


def rates(schedule: str | Sequence[float]) -> str:
    """Write a schedule of learning rates, "staircase" or [epochs at rate 1, divisor after each later one]."""
    return schedule if isinstance(schedule, str) else "1 to epoch {}, then / {:g} each".format(*schedule)


def phases(phases: Sequence[Sequence[float]]) -> str:
    """Write values that change, [first epoch, value, ...] each: "0.003; from epoch 6 0.0009"."""
    (_, *first), *later = phases
    values = [" ".join(f"{value:g}" for value in first)]
    values += [f"from epoch {epoch} {' '.join(f'{value:g}' for value in new)}" for epoch, *new in later]
    return "; ".join(values)


def _units(alive: Iterable[int]) -> str:
    return " + ".join(map(str, alive))


def compared() -> dict[float, list[tuple[float, float]]]:
    """Return strength after pruning and validation perplexity after 35 epochs, for each keep probability.

    The runs of `iss-large` whose penalty changes once, after five epochs, on one schedule of the learning rate.
    """
    points: dict[float, list[tuple[float, float]]] = {}
    for run in runs():
        starts, enough = [phase[0] for phase in run["strength"]], len(run["rows"]) >= COMPARED
        if run["preset"] == "iss-large" and starts == [1, 6] and run["schedule"] == [14, 1.15] and enough:
            strength, keep = run["strength"][1][1], run["keep"][-1][1]
            points.setdefault(keep, []).append((strength, run["rows"][COMPARED - 1][VALID]))
    return dict(sorted(points.items()))


def draw(path: Path = RESULTS / PICTURE) -> None:
    """Draw what `compared` returns, a colour for each keep probability."""
    import io

    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from issref.report.style import COLOURS, STYLE, WIDE
    from issref.training.checkpoint import write_whole

    with rc_context(STYLE):
        figure = Figure(figsize=(WIDE, 3.6))
        axes = figure.subplots()
        for (keep, points), colour in zip(compared().items(), COLOURS, strict=False):
            axes.plot(*zip(*points, strict=True), "o", color=colour, label=f"keep {keep:g}")
        title = f"validation perplexity after {COMPARED} epochs, at about 700 of 3000 units"
        axes.set(title=title, xlabel="strength after the five epochs of pruning")
        axes.legend(frameon=False, fontsize=8)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=150)
    write_whole(path, content.getvalue())
