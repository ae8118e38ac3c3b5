"""The part of docs/results.md on whole runs: dense, ISS at several strengths, and direct design.

Each row is one folder of `benchmarks/results/full`; the paper's own numbers have a table of their own.
"""

import json
import re
from itertools import pairwise
from statistics import median
from typing import Any

from benchmarks import comparisons, frontier
from benchmarks.comparisons import Result, findings, gone, kind, left, perplexity
from benchmarks.kept import RESULTS, command, load, rows, units
from issref.training.options import flattened

RUNS, PICTURES = RESULTS / "full", "../benchmarks/results/full"
DENSE, ISS = "dense-0", "iss-0.0035-0.005-0"  # the two runs of the figure training.png

# Wen et al. 2018, stacked LSTMs and RHNs on PTB, from scratch. Without the mark: the released code's README (units
# of 373 + 315, 830 and 517; strength 0.005), the paper's abstract (10.59x), jzilly's repository (23.5 M, 11.1 M).
PAPER = """
The paper's own numbers. Without a mark: its abstract (10.59x), the released code (373 + 315, keep 0.6) and the
repository of RHNs of J. Zilly. Numbers with † are quoted from memory and were not checked against its text. Speed
was measured on its authors' processor and cannot be compared with ours.

| paper | units left | parameters | valid | test | evaluation |
|---|---|---|---|---|---|
| LSTM, dense, keep 0.35 | 1500 + 1500 | 66.0 M† | 82.57† | 78.57† | 1.00x |
| LSTM, ISS, keep 0.6 | 373 + 315 | 21.8 M† | 82.59† | 78.65† | 10.59x |
| LSTM, ISS, keep 0.6 | 381 + 535† | 25.2 M† | 80.24† | 76.03† | 7.10x† |
| LSTM, direct design, keep 0.55 | 373 + 315 | 21.8 M† | 90.31† | 85.66† | 10.59x† |
| RHN, dense | 830 | 23.5 M | 67.9 | 65.4 | |
| RHN, ISS, strength 0.005 | 517 | 11.1 M | 68.1† | 65.4† | |
| RHN, ISS, strength 0.007† | 328† | 5.7 M† | 74.5† | 71.2† | |
""".strip()


def results() -> dict[str, Result]:
    """Return the result of each stored run by name: by network, dense first, then in order of decreasing size."""
    found = {path.parent.name: load(f"full/{path.parent.name}")[0] for path in RUNS.glob("*/result.json")}
    return dict(sorted(found.items(), key=lambda item: (*_place(item[1]), item[0])))


def _place(result: Result) -> tuple[str, int, str, int]:
    """Return the model, its width before training (in direct design, that of the embedding), method, and size."""
    settings = result["settings"]
    width = settings["embed_size"] or settings["hidden_sizes"][0]
    return settings["model"], -width, kind(result), -left(result)


def section() -> str:
    """Return the block `full` of docs/results.md."""
    found = results()
    lines = [
        "Whole runs on Penn TreeBank. *valid* and *test*: perplexity of the compact model with batch 1 over "
        "the whole text; of a run that has not ended, *valid* is that of 20 rows after its last whole epoch. "
        "The number that ends a name is the seed. *x 0.4 from epoch 4*: the penalty is scaled by 0.4 after "
        "three epochs (in names: *rest*; *early*: by 0; *init*: begun with another run's model). *direct*: the "
        "sizes that ISS found, trained dense from scratch. *evaluation*: speed of the compact model relative "
        "to the full model of the same run; dense runs, where the two are equal, show the noise. *min*: "
        "minutes of training (threads; *all*: of two cores), including the run that gave the first weights; "
        "other work shared the machine, so they are an upper bound. *memory*: change of the resident memory "
        "from the end of the first epoch to the end of the last.",
        "",
        "| run | strength | seed | units left | removed | parameters | valid | test | evaluation | min | memory |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(_row(name, result) for name, result in found.items()),
        *map(_unfinished_row, unfinished()),
        "",
        *(f"{name}: {reason}\n" for name, reason in stopped().items()),
        *findings([*found.values()]),
        *_overfitting(found),
        _memory(found),
        "",
        f"![Test perplexity over the parameters left]({PICTURES}/frontier.png)",
        "",
        f"![Thirteen epochs, dense and with ISS]({PICTURES}/training.png)",
        "",
        *(line for name in large() for line in _large_run(name)),
        PAPER,
        "",
        "| run | command |",
        "|---|---|",
        *(f"| {name} | `{command(RUNS / name)}` |" for name in (*found, *unfinished())),
    ]
    return "\n".join(lines)


def unfinished() -> list[str]:
    """Return the names of stored runs that have not ended."""
    return [name for name in stored() if not (RUNS / name / "result.json").exists()]


def large() -> list[str]:
    """Return the names of stored runs of more than 200 units a layer, which have a figure of their own."""
    return [name for name in stored() if max(_settings(name)["hidden_sizes"]) > 200 and name not in stopped()]


def stopped() -> dict[str, str]:
    """Return why a run was stopped and not resumed, by name."""
    return {path.parent.name: path.read_text().strip() for path in sorted(RUNS.glob("*/stopped.txt"))}


def stored() -> list[str]:
    """Return the names of all stored runs."""
    return sorted(path.parent.name for path in RUNS.glob("*/config.json"))


def _settings(name: str) -> dict[str, Any]:
    return flattened(json.loads((RUNS / name / "config.json").read_text()))


def _unfinished_row(name: str) -> str:
    """The row of a run that has not ended; its valid perplexity is from the last epoch, in the run's batch."""
    settings, (*_, last) = _settings(name), rows(RUNS / name)
    alive = last["alive"].values()
    state = "stopped" if name in stopped() else "unfinished"
    text = f"{name}: {state}, {last['epoch']} of {settings['epochs']} epochs"
    share = 1 - sum(alive) / sum(settings["hidden_sizes"])
    cells = [text, _strength(settings), f"{settings['seed']}", " + ".join(map(str, alive)), f"{share:.0%}", ""]
    cells += [f"{last['valid_perplexity']:.2f}", "", "", "", ""]
    return f"| {' | '.join(cells)} |"


def _large_run(name: str) -> list[str]:
    """Figure, times, memory and the compact model's hash of a run that is too large for its model to be stored."""
    seconds = [0.0, *(row["seconds"] for row in rows(RUNS / name))]
    minutes = [(after - before) / 60 for before, after in pairwise(seconds)]
    memory = max(row["resident_mb"] for row in rows(RUNS / name))
    text = (
        f"{name}: an epoch took {min(minutes):.1f} to {max(minutes):.0f} minutes, in the median over the last ten "
        f"{median(minutes[-10:]):.1f}; other work shared the machine. Resident memory: at most {memory:,.0f} MB."
    )
    if (digest := RUNS / name / "model.sha256").exists():
        text += f" The compact model is not in the repository; its SHA-256 is `{digest.read_text().split()[0]}`."
    return [f"![{name}, epoch by epoch]({PICTURES}/{name}/training.png)", "", text, ""]


def _strength(settings: dict[str, Any]) -> str:
    strength = " ".join(f"{one:g}" for one in settings["strength"]) if settings["method"] == "prox" else ""
    if strength and (epochs := settings.get("penalty_epochs")):
        rest = settings.get("final_penalty_scale")
        strength += f"; x {rest or 0:g} from epoch {epochs + 1}"
    return strength


def _row(name: str, result: Result) -> str:
    settings = result["settings"]
    cells = [
        name,
        _strength(settings),
        f"{settings['seed']}",
        units(result, "compact"),
        f"{gone(result):.0%}",
        f"{result['parameters']['compact']:,}",
        f"{result['valid_perplexity']['compact']:.2f}",
        f"{perplexity(result):.2f}",
        f"{comparisons.faster(result):.2f}x",
        f"{minutes(name):.0f} ({settings['threads'] or 'all'})",
        f"{growth(name):+.1%}",
    ]
    return f"| {' | '.join(cells)} |"


def minutes(name: str) -> float:
    """Return the minutes of training of a run, including the run that gave it its first weights."""
    parts = (RUNS / name / one for one in ("start.json", "result.json"))
    return sum(json.loads(part.read_text())["seconds"]["train"] for part in parts if part.exists()) / 60


def paper_size(found: dict[str, Result]) -> list[str]:
    """Return the sentence on the paper's network; none while no run of it has ended."""
    one = comparisons.compared(found.values(), "lstm 1500 + 1500")
    if one is None:
        return []
    (best, *_), (_, (_, paper), *_) = one.best, paper_points()  # its dense network, then its ISS with 373 + 315
    (name,) = (name for name, other in found.items() if other is best)
    return [
        f"**{units(best, 'full')} units trained down to {units(best, 'compact')}** on "
        f"{best['settings']['threads']} CPU cores in at most {minutes(name) / 60:.1f} hours: test perplexity "
        f"{perplexity(best):.2f} (the paper's, from memory: {paper:.2f}), evaluation "
        f"{comparisons.faster(best):.1f} times as fast."
    ]


def _overfitting(found: dict[str, Result]) -> list[str]:
    """Say which dense runs ended above their lowest validation perplexity, and by how much."""
    texts = []
    for name in (name for name, one in found.items() if one["settings"]["method"] == "dense"):
        valid = [row["valid_perplexity"] for row in rows(RUNS / name)]
        if (lowest := min(valid)) < valid[-1]:
            texts.append(f"{name}: {lowest:.2f} after epoch {valid.index(lowest) + 1}, {valid[-1]:.2f} at the end")
    if not texts:
        return []
    return [
        f"Dense runs that ended above their lowest validation perplexity (20 rows): {'; '.join(texts)}.",
        "",
    ]


def growth(name: str) -> float:
    """Return the relative growth of resident memory from the end of the first epoch to the end of the last."""
    first, *_, last = (row["resident_mb"] for row in rows(RUNS / name))
    return last / first - 1


def _memory(found: dict[str, Result]) -> str:
    """Compare the largest memory growth of a run with its target."""
    name = max(found, key=growth)
    verdict = "Met" if growth(name) <= 0.02 else "Missed"
    return f"Largest memory growth of a run, {name}: {growth(name):+.1%}. Target: at most 2%. {verdict}."


def paper_points() -> list[tuple[float, float]]:
    """Return parameters, in millions, and test perplexity of the paper's LSTMs but the direct design."""
    found = re.findall(
        r"^\| LSTM, (?:dense|ISS).*?\| ([\d.]+) M†? \|.*?\|.*? ([\d.]+)†? \|.*$", PAPER, re.MULTILINE
    )
    return [(float(size), float(test)) for size, test in found]


def draw() -> None:
    """Draw test perplexity over parameters, and the curves of a dense run, an ISS run, and the large runs."""
    from issref.report import compare_training

    frontier.draw(results(), paper_points(), RUNS / "frontier.png")
    compare_training({"dense": rows(RUNS / DENSE), "ISS": rows(RUNS / ISS)}, RUNS / "training.png")
    for name in large():
        compare_training({"ISS": rows(RUNS / name)}, RUNS / name / "training.png")
