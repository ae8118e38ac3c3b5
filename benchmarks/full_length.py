"""The README's part on whole runs: dense, ISS at several strengths, and the sizes found, trained from scratch.

Every row is a folder of `benchmarks/results/full`, kept as the run left it; the paper's figures stand beside them
as the paper's.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
RUNS, PICTURES = RESULTS / "full", "benchmarks/results/full"
DENSE, ISS = "dense-0", "iss-0.0035-0.005-0"  # of which the curves are drawn
Result = Mapping[str, Any]

# Wen et al. 2018: table 1 (stacked LSTMs on PTB) and table 2 (RHNs), from scratch.
PAPER = """
| the paper's, not ours | units left | parameters | valid | test | evaluation |
|---|---|---|---|---|---|
| LSTM, dense, keep 0.35 | 1500 + 1500 | 66.0 M | 82.57 | 78.57 | 1.00x |
| LSTM, ISS, keep 0.6 | 373 + 315 | 21.8 M | 82.59 | 78.65 | 10.59x |
| LSTM, ISS, keep 0.6 | 381 + 535 | 25.2 M | 80.24 | 76.03 | 7.10x |
| LSTM, direct design, keep 0.55 | 373 + 315 | 21.8 M | 90.31 | 85.66 | 10.59x |
| RHN, dense | 830 | 23.5 M | 67.9 | 65.4 | |
| RHN, ISS, strength 0.005 | 517 | 11.1 M | 68.1 | 65.4 | |
| RHN, ISS, strength 0.007 | 328 | 5.7 M | 74.5 | 71.2 | |
""".strip()


def results() -> dict[str, Result]:
    """Every run that is kept, by name, dense first, then the smaller the later."""
    found = {path.parent.name: json.loads(path.read_text()) for path in RUNS.glob("*/result.json")}
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


def test_perplexity(result: Result) -> float:
    """That of the compact model, batch 1."""
    return result["test_perplexity"]["compact"]


def section() -> str:
    """The part as it stands in the README."""
    found = results()
    lines = [
        "Whole runs on Penn TreeBank; perplexity with batch 1 over the whole text, compact models. Evaluation: "
        "how many times as fast as the same run's arrays before compaction, at its end. Minutes are those of "
        "training: with `--threads 1` beside other work, else on two cores.",
        "",
        "| run | strength | seed | units left | gone | parameters | valid | test | evaluation | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_row(name, result) for name, result in found.items()),
        "",
        *_findings(found.values()),
        f"![Test perplexity over the parameters left]({PICTURES}/frontier.png)",
        "",
        f"![Thirteen epochs, dense and with ISS]({PICTURES}/training.png)",
        "",
        PAPER,
        "",
        "| run | command |",
        "|---|---|",
        *(f"| {name} | `{(RUNS / name / 'command.txt').read_text().strip()}` |" for name in found),
    ]
    return "\n".join(lines)


def _row(name: str, result: Result) -> str:
    settings, seconds = result["settings"], result["seconds"]
    strength = " ".join(f"{one:g}" for one in settings["strength"]) if settings["method"] == "prox" else ""
    if strength and (epochs := settings.get("penalty_epochs")):
        strength += f" for {epochs} epochs"
    cells = [
        name,
        strength,
        f"{settings['seed']}",
        " + ".join(map(str, result["components"]["compact"].values())),
        f"{gone(result):.0%}",
        f"{result['parameters']['compact']:,}",
        f"{result['valid_perplexity']['compact']:.2f}",
        f"{test_perplexity(result):.2f}",
        f"{seconds['evaluate_full'] / seconds['evaluate_compact']:.2f}x",
        f"{seconds['train'] / 60:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _findings(found: Sequence[Result] | Any) -> list[str]:
    """For each network: dense, and the most that ISS removes while its test perplexity is not above."""
    lines = []
    for model, words in {"lstm": "`zaremba-small`", "rhn": "The recurrent highway network"}.items():
        dense = [test_perplexity(result) for result in found if kind(result) == f"{model} dense"]
        ours = [result for result in found if kind(result) == f"{model} prox"]
        if not (dense and ours):
            continue
        mean = statistics.mean(dense)
        lossless = [result for result in ours if test_perplexity(result) <= mean]
        text = f"{words}: dense ends at test perplexity {mean:.2f}"
        text += f" (mean of {len(dense)} seeds). " if len(dense) > 1 else " (one seed). "
        if lossless:
            best = max(lossless, key=gone)
            text += f"The smallest network with ISS that ends no higher, at {test_perplexity(best):.2f}, has lost "
            text += f"{gone(best):.0%} of all units: {left(best)} are left."
        else:
            text += "No run with ISS ends at or below it."
        lines += [text, ""]
    return lines


def draw() -> None:
    """The frontier, test perplexity over the parameters left; and two runs side by side, epoch by epoch."""
    from issref.report import compare_training
    from issref.sweep.frontier import frontier_figure
    from issref.sweep.trained import COMMANDS

    lstms = {name: result for name, result in results().items() if kind(result).startswith("lstm")}
    rows: list[dict[str, Any]] = [
        {"name": name, "settings": dict(result["settings"]), "result": result} for name, result in lstms.items()
    ]
    shared = {
        name: value
        for name, value in rows[0]["settings"].items()
        if name == "threads" or all(row["settings"][name] == value for row in rows)
    }
    for row in rows:
        row["settings"] = {name: value for name, value in row["settings"].items() if name not in shared}
    known = {"scores": COMMANDS["ptb"].scores, "better": COMMANDS["ptb"].better}
    frontier_figure({"settings": shared, "runs": rows, **known}).savefig(RUNS / "frontier.png", dpi=110)
    rows = {"dense": RUNS / DENSE, "ISS": RUNS / ISS}
    metrics = {
        label: [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for label, folder in rows.items()
    }
    compare_training(metrics, RUNS / "training.png")
