"""The part of docs/results.md on the settings that were tried on a GPU (`benchmarks.twin`) before long runs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.kept import RESULTS, rows
from benchmarks.words import table

FOUND, PICTURE = RESULTS / "search.json", "search.png"
SAME = "medium-iss-0.003-0.0035-rest-0"  # the whole run whose settings were tried, too
EPOCH, TRAIN, VALID, ALIVE = 0, 1, 2, slice(3, None)  # of a row

Run = dict[str, Any]


def runs() -> list[Run]:
    """Return the runs, the best of each network first."""
    return json.loads(FOUND.read_text())["runs"]


def section() -> str:
    """Return the block `search` of docs/results.md."""
    head = ["network", "strength", "keep", "learning rate", "units left", "epochs", "train", "valid", "test"]
    machine = json.loads(FOUND.read_text())["machine"]
    text = (
        f"Before a long run was begun on two cores, other settings were tried on a GPU ({machine}), where an "
        "epoch takes seconds. `python -m benchmarks.twin` trains so, and says in what it differs from "
        "`train_ptb`. (These runs were made by an earlier form of it, in turns of up to twelve.) All have "
        "seed 0 and clip 5. With `iss-large` they begin after one epoch without penalty at rate 0.5. "
        "Perplexities are of 20 rows of text, and `train` is with dropout. A run without test perplexity was "
        "stopped after the epochs shown, because others did better or because the time on the machine was "
        "over. In the figure it is hollow."
    )
    picture = f"![Validation perplexity over the strength that remains](../benchmarks/results/{PICTURE})"
    return "\n\n".join([text, _agreement(), picture, table(head, map(_cells, runs()), words=5)])


def _agreement() -> str:
    """Compare a whole run of train_ptb with the run on the GPU that has its settings."""
    (twin,) = (run for run in runs() if run["strength"] == [[1, 0.003, 0.0035], [4, 0.0012, 0.0014]])
    last = twin["rows"][-1]
    ours = rows(RESULTS / "full" / SAME)[last[EPOCH] - 1]
    return (
        f"{SAME}, on two cores, after {last[EPOCH]} epochs: {_units(ours['alive'].values())} units, train "
        f"{ours['train_perplexity']:.2f}, valid {ours['valid_perplexity']:.2f}. The same settings on the GPU: "
        f"{_units(last[ALIVE])} units, train {last[TRAIN]:.2f}, valid {last[VALID]:.2f}."
    )


def _cells(run: Run) -> list[str]:
    last = run["rows"][-1]
    first, *falling = ["staircase"] if run["schedule"] == "staircase" else run["schedule"]
    return [
        f"`{run['preset']}`",
        _phases(run["strength"]),
        _phases(run["keep"]),
        f"{first} epochs, then / {falling[0]:g}" if falling else first,
        _units(last[ALIVE]),
        f"{last[EPOCH]} of {run['epochs']}",
        f"{last[TRAIN]:.2f}",
        f"{last[VALID]:.2f}",
        f"{run['test']:.2f}" if run["test"] else "",
    ]


def _phases(phases: Sequence[Sequence[float]]) -> str:
    """Write values that change, [first epoch, value, ...] each: "0.003; from epoch 6 0.0009"."""
    (_, *first), *later = phases
    values = [" ".join(f"{value:g}" for value in first)]
    values += [f"from epoch {epoch} {' '.join(f'{value:g}' for value in new)}" for epoch, *new in later]
    return "; ".join(values)


def _units(alive) -> str:
    return " + ".join(map(str, alive))


def draw(path: Path = RESULTS / PICTURE) -> None:
    """Draw the lowest validation perplexity over the strength after pruning, a colour for each keep probability.

    The runs of `iss-large` that were pruned in five epochs and trained for 20 more or longer; hollow if stopped.
    """
    import io

    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from issref.report.style import COLOURS, STYLE, WIDE
    from issref.training.checkpoint import write_whole

    shown = [run for run in runs() if [phase[0] for phase in run["strength"]] == [1, 6] and len(run["rows"]) > 25]
    keeps = sorted({run["keep"][-1][1] for run in shown})
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDE, 3.6))
        axes = figure.subplots()
        for keep, colour in zip(keeps, COLOURS, strict=False):
            alike = sorted(
                (run for run in shown if run["keep"][-1][1] == keep), key=lambda run: run["strength"][-1]
            )
            for run in alike:
                point = run["strength"][-1][1], min(row[VALID] for row in run["rows"])
                axes.plot(*point, "o", color=colour, fillstyle="full" if run["test"] else "none")
            axes.plot([], "o", color=colour, label=f"keep {keep:g}")
        axes.set(title="lowest validation perplexity", xlabel="strength after the five epochs of pruning")
        axes.legend(frameon=False, fontsize=8)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=150)
    write_whole(path, content.getvalue())
