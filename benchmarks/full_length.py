"""The README's part on whole runs: dense, ISS at several strengths, and the sizes found, trained from scratch.

Every row is a folder of `benchmarks/results/full`, kept as the run left it; the paper's figures stand beside them
as the paper's.
"""

import io
import statistics
from collections.abc import Iterable
from typing import Any

from benchmarks.kept import RESULTS, load, units
from issref.ptb.settings import Settings

RUNS, PICTURES = RESULTS / "full", "benchmarks/results/full"
DENSE, ISS = "dense-0", "iss-0.0035-0.005-0"  # of which the curves are drawn
DIRECT = "lstm direct design"
Result = dict[str, Any]

# Wen et al. 2018, stacked LSTMs and RHNs on PTB, from scratch. Without the mark: the released code's README (units
# of 373 + 315, 830 and 517; strength 0.005), the paper's abstract (10.59x), jzilly's repository (23.5 M, 11.1 M).
PAPER = """
The paper's own numbers, not ours, on far larger networks. Those with † are repeated from memory and could not be
held against its text.

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
    """Every run that is kept, by name, dense first, then the smaller the later."""
    found = {path.parent.name: load(f"full/{path.parent.name}")[0] for path in RUNS.glob("*/result.json")}
    return dict(sorted(found.items(), key=lambda item: (kind(item[1]), -left(item[1]), item[0])))


def kind(result: Result) -> str:
    """dense, direct (dense at widths that ISS found) or prox, in the words of the table; and which network."""
    settings = result["settings"]
    direct = settings["method"] == "dense" and settings["embed_size"] not in (None, settings["hidden_sizes"][0])
    return f"{settings['model']} {'direct design' if direct else settings['method']}"


def left(result: Result) -> int:
    """Units that are left."""
    return sum(result["components"]["compact"].values())


def gone(result: Result) -> float:
    """Share of all units that is gone."""
    return 1 - left(result) / sum(result["components"]["full"].values())


def perplexity(result: Result) -> float:
    """That of the compact model, batch 1."""
    return result["test_perplexity"]["compact"]


def section() -> str:
    """The part as it stands in the README."""
    found = results()
    lines = [
        "Whole runs on Penn TreeBank; perplexity with batch 1 over the whole text, compact models. Evaluation: "
        "how many times as fast as the same run's arrays before compaction, at its end; where nothing is gone, "
        "how much times differ here by chance. Minutes are those of training: with `--threads 1` beside other "
        "work, else on two cores. Memory: resident after the last epoch, against that after the first.",
        "",
        "| run | strength | seed | units left | gone | parameters | valid | test | evaluation | min | memory |",
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
        strength += f", from epoch {epochs + 1} on {f'{rest:g} of it' if rest else 'none'}"
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
    """For each network: dense, the most that ISS removes while its test perplexity is not above, what is nearest.

    All are means over the seeds of the same settings.
    """
    lines, found = [], list(found)
    for model, words in {"lstm": "`zaremba-small`", "rhn": "The recurrent highway network"}.items():
        dense = [result for result in found if kind(result) == f"{model} dense"]
        ours = [result for result in found if kind(result) == f"{model} prox"]
        if not (dense and ours):
            continue
        lossless = [seeds for seeds in alike(ours) if ends(seeds) <= ends(dense)]
        text = f"{words}: dense ends at test perplexity {ends(dense):.2f}{_seeds(dense)}. "
        if lossless:
            best = max(lossless, key=lambda seeds: statistics.mean(map(gone, seeds)))
            text += (
                f"The smallest network with ISS that ends no higher, at {ends(best):.2f}{_seeds(best)}, has lost "
            )
            text += f"{statistics.mean(map(gone, best)):.0%} of all units: "
            text += f"{' and '.join(str(left(one)) for one in best)} are left."
        else:
            text += "No run with ISS ends at or below it."
        if above := [seeds for seeds in alike(ours) if ends(seeds) > ends(dense)]:
            near = min(above, key=ends)
            text += f" Nearest above: {ends(near):.2f}{_seeds(near)}, {ends(near) / ends(dense) - 1:.1%} higher, "
            text += f"{statistics.mean(map(gone, near)):.0%} gone."
        lines += [text, ""]
        lines += [_direct(one, ours) for one in found if kind(one) == f"{model} direct design"]
    return lines


def alike(found: Iterable[Result]) -> list[list[Result]]:
    """Results of the same settings but for the seed, together."""
    groups: dict[Settings, list[Result]] = {}
    for result in found:
        settings = Settings.from_flat(result["settings"]).replaced(seed=0, threads=None)
        groups.setdefault(settings, []).append(result)
    return list(groups.values())


def ends(seeds: Iterable[Result]) -> float:
    """Mean test perplexity."""
    return statistics.mean(map(perplexity, seeds))


def _seeds(found: list[Result]) -> str:
    return f" (mean of {len(found)} seeds)" if len(found) > 1 else " (one seed)"


def _direct(direct: Result, ours: list[Result]) -> str:
    """Direct design beside the run with ISS that found its sizes, on the same schedule."""
    schedule = ("epochs", "learning_rate", "flat_epochs", "decay", "seed")
    (twin,) = (
        one
        for one in ours
        if one["parameters"]["compact"] == direct["parameters"]["compact"]
        and all(one["settings"][name] == direct["settings"][name] for name in schedule)
    )
    return (
        f"Direct design, {units(direct, 'compact')} trained dense from scratch, ends at {perplexity(direct):.2f}; "
        f"ISS, which found these sizes while it trained, at {perplexity(twin):.2f}.\n"
    )


def growth(name: str) -> float:
    """Share by which a run's resident memory grew from the end of its first epoch to that of its last."""
    first, *_, last = (row["resident_mb"] for row in load(f"full/{name}")[1])
    return last / first - 1


def _memory(found: dict[str, Result]) -> str:
    """What the column on memory says of the run that trained longest, beside what was wanted."""
    name = max(found, key=lambda name: found[name]["seconds"]["train"])
    verdict = "met" if abs(growth(name)) <= 0.02 else "missed"
    return f"Memory over the longest of these runs, {name}: {growth(name):+.1%}. Wanted was 2% or less: {verdict}."


def draw() -> None:
    """The frontier, test perplexity over the parameters left; and two runs side by side, epoch by epoch."""
    from issref.report import compare_training
    from issref.sweep.frontier import frontier_figure
    from issref.sweep.trained import COMMANDS
    from issref.training.checkpoint import write_whole

    lstms = {name: result for name, result in results().items() if result["settings"]["model"] == "lstm"}
    rows: list[dict[str, Any]] = [
        {"name": name, "settings": Settings.from_flat(result["settings"]).flat(), "result": result}
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
