"""The part of docs/results.md on whole runs: dense, ISS at several strengths, and direct design.

Each row is one folder of `benchmarks/results/full`; the paper's own numbers have a table of their own.
"""

import io
import json
import statistics
from collections.abc import Iterable
from typing import Any

from benchmarks.kept import RESULTS, load, units

RUNS, PICTURES = RESULTS / "full", "../benchmarks/results/full"
DENSE, ISS = "dense-0", "iss-0.0035-0.005-0"  # the two runs of the figure training.png
DIRECT = "lstm direct design"
Result = dict[str, Any]

# Wen et al. 2018, stacked LSTMs and RHNs on PTB, from scratch. Without the mark: the released code's README (units
# of 373 + 315, 830 and 517; strength 0.005), the paper's abstract (10.59x), jzilly's repository (23.5 M, 11.1 M).
PAPER = """
The paper's own numbers, on far larger networks. Numbers with † are quoted from memory and were not checked
against its text.

| paper | units left | parameters | valid | test | evaluation |
|---|---|---|---|---|---|
| LSTM, dense, keep 0.35 | 1500 + 1500 | 66.0 M† | 82.57† | 78.57† | 1.00x |
| LSTM, ISS, keep 0.6 | 373 + 315 | 21.8 M† | 82.59† | 78.65† | 10.59x |
| LSTM, ISS, keep 0.6 | 381 + 535 | 25.2 M | 80.24† | 76.03† | 7.10x† |
| LSTM, direct design, keep 0.55 | 373 + 315 | 21.8 M† | 90.31† | 85.66† | 10.59x† |
| RHN, dense | 830 | 23.5 M | 67.9 | 65.4 | |
| RHN, ISS, strength 0.005 | 517 | 11.1 M | 68.1† | 65.4† | |
| RHN, ISS, strength 0.007† | 328† | 5.7 M† | 74.5† | 71.2† | |
""".strip()


def results() -> dict[str, Result]:
    """Return the result of each stored run by name: dense first, then in order of decreasing size."""
    found = {path.parent.name: load(f"full/{path.parent.name}")[0] for path in RUNS.glob("*/result.json")}
    return dict(sorted(found.items(), key=lambda item: (kind(item[1]), -left(item[1]), item[0])))


def kind(result: Result) -> str:
    """Return the network and the method of a run; "direct design" is a dense run at widths that ISS found."""
    settings = result["settings"]
    direct = settings["method"] == "dense" and settings["embed_size"] not in (None, settings["hidden_sizes"][0])
    return f"{settings['model']} {'direct design' if direct else settings['method']}"


def left(result: Result) -> int:
    """Return the number of units of the compact model."""
    return sum(result["components"]["compact"].values())


def gone(result: Result) -> float:
    """Return the share of all units that was removed."""
    return 1 - left(result) / sum(result["components"]["full"].values())


def perplexity(result: Result) -> float:
    """Return the test perplexity of the compact model, batch 1."""
    return result["test_perplexity"]["compact"]


def section() -> str:
    """Return the block `full` of docs/results.md."""
    found = results()
    lines = [
        "Whole runs on Penn TreeBank; perplexity of the compact models with batch 1 over the whole text. "
        "Evaluation: speed of the compact model relative to the full model of the same run; in dense runs, where "
        "the two are equal, it shows the noise of this measurement. Minutes: training time, with `--threads 1` on "
        "a machine shared with other work, else on two cores. Memory: change of the resident memory from the end "
        "of the first epoch to the end of the last.",
        "",
        "| run | strength | seed | units left | removed | parameters | valid | test | evaluation | min | memory |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(_row(name, result) for name, result in found.items()),
        "",
        *findings(found.values()),
        _memory(found),
        "",
        f"![Test perplexity over the parameters left]({PICTURES}/frontier.png)",
        "",
        f"![Thirteen epochs, dense and with ISS]({PICTURES}/training.png)",
        "",
        PAPER,
        "",
        "| run | command |",
        "|---|---|",
        *(f"| {name} | `{load(f'full/{name}')[2]}` |" for name in found),
    ]
    return "\n".join(lines)


def _row(name: str, result: Result) -> str:
    settings, seconds = result["settings"], result["seconds"]
    strength = " ".join(f"{one:g}" for one in settings["strength"]) if settings["method"] == "prox" else ""
    if strength and (epochs := settings.get("penalty_epochs")):
        rest = settings.get("final_penalty_scale")
        strength += f"; x {rest or 0:g} from epoch {epochs + 1}"
    cells = [
        name,
        strength,
        f"{settings['seed']}",
        units(result, "compact"),
        f"{gone(result):.0%}",
        f"{result['parameters']['compact']:,}",
        f"{result['valid_perplexity']['compact']:.2f}",
        f"{perplexity(result):.2f}",
        f"{seconds['evaluate_full'] / seconds['evaluate_compact']:.2f}x",
        f"{seconds['train'] / 60:.0f}",
        f"{growth(name):+.1%}",
    ]
    return f"| {' | '.join(cells)} |"


def findings(found: Iterable[Result]) -> list[str]:
    """Return one paragraph for each network that compares ISS with dense, and one for each direct design.

    All numbers are means over the seeds of equal settings.
    """
    lines, found = [], list(found)
    for model, name in {"lstm": "`zaremba-small`", "rhn": "The recurrent highway network"}.items():
        dense, ours = (of_kind(found, f"{model} {method}") for method in ("dense", "prox"))
        if not (dense and ours):
            continue
        text = f"{name}: the dense model has test perplexity {mean_perplexity(dense):.2f}{_seeds(dense)}. "
        _, best = comparison(found, model)
        if best:
            text += f"The smallest ISS model that is no worse, at {mean_perplexity(best):.2f}{_seeds(best)}, has "
            text += f"{' and '.join(str(left(one)) for one in best)} units: {_removed(best):.0%} are removed."
        else:
            text += "No ISS model is as good."
        if above := [seeds for seeds in alike(ours) if mean_perplexity(seeds) > mean_perplexity(dense)]:
            near = min(above, key=mean_perplexity)
            higher = mean_perplexity(near) / mean_perplexity(dense) - 1
            text += f" The best ISS model above the dense one: {mean_perplexity(near):.2f}{_seeds(near)}, "
            text += f"{higher:.1%} higher, with {_removed(near):.0%} of the units removed."
        lines += [text, ""]
        lines += [_direct(one, ours) for one in found if kind(one) == f"{model} direct design"]
    return lines


def comparison(found: Iterable[Result], model: str) -> tuple[list[Result], list[Result]]:
    """Return the dense runs of a network, and the smallest ISS runs whose mean perplexity is no higher, if any."""
    dense, ours = (of_kind(found, f"{model} {method}") for method in ("dense", "prox"))
    lossless = [seeds for seeds in alike(ours) if mean_perplexity(seeds) <= mean_perplexity(dense)]
    return dense, max(lossless, key=_removed, default=[])


def of_kind(found: Iterable[Result], wanted: str) -> list[Result]:
    """Return the results of one kind."""
    return [result for result in found if kind(result) == wanted]


def alike(found: Iterable[Result]) -> list[list[Result]]:
    """Group results whose settings differ in the seed only."""
    groups: dict[str, list[Result]] = {}
    for result in found:
        settings = result["settings"] | {"seed": 0, "threads": None}
        groups.setdefault(json.dumps(settings), []).append(result)
    return list(groups.values())


def mean_perplexity(seeds: Iterable[Result]) -> float:
    """Return the mean test perplexity of several runs."""
    return statistics.mean(map(perplexity, seeds))


def _removed(seeds: Iterable[Result]) -> float:
    return statistics.mean(map(gone, seeds))


def _seeds(found: list[Result]) -> str:
    return f" (mean of {len(found)} seeds)" if len(found) > 1 else " (one seed)"


def _direct(direct: Result, ours: list[Result]) -> str:
    """Compare direct design with the ISS run that found its sizes, on the same schedule."""
    schedule = ("epochs", "learning_rate", "flat_epochs", "decay", "seed")
    (twin,) = (
        one
        for one in ours
        if one["parameters"]["compact"] == direct["parameters"]["compact"]
        and all(one["settings"][name] == direct["settings"][name] for name in schedule)
    )
    return (
        f"Direct design, {units(direct, 'compact')} units trained dense from scratch, has test perplexity "
        f"{perplexity(direct):.2f}; ISS, which found these sizes during training, {perplexity(twin):.2f}.\n"
    )


def growth(name: str) -> float:
    """Return the relative growth of resident memory from the end of the first epoch to the end of the last."""
    first, *_, last = (row["resident_mb"] for row in load(f"full/{name}")[1])
    return last / first - 1


def _memory(found: dict[str, Result]) -> str:
    """Compare the memory growth of the longest run with its target."""
    name = max(found, key=lambda name: found[name]["seconds"]["train"])
    verdict = "Met" if abs(growth(name)) <= 0.02 else "Missed"
    return f"Memory growth of the longest run, {name}: {growth(name):+.1%}. Target: at most 2%. {verdict}."


def draw() -> None:
    """Draw test perplexity against parameters, and the curves of a dense and an ISS run."""
    from issref.report import compare_training
    from issref.sweep.frontier import frontier_figure
    from issref.sweep.task import COMMANDS
    from issref.training.checkpoint import write_whole

    lstms = {name: result for name, result in results().items() if result["settings"]["model"] == "lstm"}
    rows: list[dict[str, Any]] = [
        {"name": name, "settings": dict(result["settings"]), "result": result}
        for name, result in lstms.items()
        if kind(result) != DIRECT
    ]
    shared = {
        name: value
        for name, value in rows[0]["settings"].items()
        if name == "threads" or all(row["settings"][name] == value for row in rows)
    }
    for row in rows:
        row["settings"] = {name: value for name, value in row["settings"].items() if name not in shared}
    known = {"scores": COMMANDS["ptb"].scores, "better": COMMANDS["ptb"].better}
    figure = frontier_figure({"settings": shared, "runs": rows, **known})
    for result in lstms.values():
        if kind(result) == DIRECT:
            point = result["parameters"]["compact"], perplexity(result)
            figure.axes[0].plot(*point, "s", color="0.45", label="direct design")
            figure.axes[0].legend(frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    write_whole(RUNS / "frontier.png", content.getvalue())
    curves = {label: load(f"full/{name}")[1] for label, name in {"dense": DENSE, "ISS": ISS}.items()}
    compare_training(curves, RUNS / "training.png")
