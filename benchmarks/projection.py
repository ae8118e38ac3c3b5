"""Projected time of the paper's runs on this machine: time of a step times number of steps of a preset.

The runs are not executed. Evaluations, proximal steps and cuts come on top; with ISS the time of a step falls
during the run.
"""

from benchmarks.evaluation import COMPACT, EMBED
from benchmarks.kept import load
from benchmarks.steps import task, training_step
from benchmarks.timing import interleaved, milliseconds
from benchmarks.words import Figures, Measured, number, part, table
from issref.ptb.settings import PRESETS

WORDS = load("small")[0]["corpus"]["train"]  # of Penn TreeBank, with the ends of sentences
LARGE = PRESETS["iss-large"]
RUNS = {
    "zaremba-medium": PRESETS["zaremba-medium"],
    "iss-large": LARGE,
    "iss-large at the paper's sizes": LARGE.replaced(hidden_sizes=COMPACT, embed_size=EMBED),
}


def measure(seconds: float) -> Figures:
    """Milliseconds of a dense training step of each, dropout drawn inside it."""
    return milliseconds(interleaved({name: training_step(task(run)) for name, run in RUNS.items()}, seconds))


def steps(name: str) -> int:
    """Steps of all epochs."""
    settings = RUNS[name]
    return settings.schedule.epochs * ((WORDS // settings.schedule.batch - 1) // settings.schedule.steps)


def section(measured: Measured) -> str:
    """A line for each run."""
    if not (figures := measured.get("projection")):
        return ""
    rows = []
    for name, settings in RUNS.items():
        widths = " + ".join(map(str, settings.network.hidden_sizes))
        milliseconds_a_step = figures[f"{name}_ms"]
        hours = steps(name) * milliseconds_a_step / 3.6e6
        rows.append([name, widths, number(milliseconds_a_step), f"{steps(name):,}", number(hours)])
    return part(
        "Whole runs, projected",
        "The time of a dense step times the number of steps on Penn TreeBank. These runs were not executed. "
        "Evaluations, proximal steps and cuts come on top; with ISS the time of a step falls from that of the "
        "dense model to that of the compact one.",
        table(["run", "units", "a step, ms", "steps in all", "hours"], rows, words=2),
    )
