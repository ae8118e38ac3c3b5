"""Write the generated blocks of README.md and three pages of docs: `python -m benchmarks.readme`.

Each folder of `benchmarks/results` holds the files of one run (result.json, metrics.jsonl, figures) and
command.txt, the command that produced them. The text between two markers such as <!-- small --> and
<!-- /small --> is generated, from result files or, in docs/settings.md, from the settings; a test compares.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import issref.ptb.settings
import issref.squad.settings
from benchmarks import comparisons, flags, full_length, questions, recipes, record, search
from benchmarks.comparisons import Result
from benchmarks.kept import RESULTS, load, units
from benchmarks.targets import TARGETS, values
from benchmarks.words import number, table, wrapped
from issref.ptb.settings import EMBEDDED, QUICK
from issref.training.console import difference_phrase

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *(ROOT / "docs" / f"{page}.md" for page in ("results", "settings", "recipes")))


def headline() -> str:
    """Dense against ISS for each network: quality, units removed, speed."""
    found = full_length.results()
    compared = {
        known.text: comparisons.compared(found.values(), name) for name, known in comparisons.NETWORKS.items()
    }
    dense, iss = (load(f"squad-small{twin}")[0] for twin in ("-dense", ""))
    rows = [
        *(_perplexities(text, one) for text, one in compared.items() if one),
        ["BiDAF, 6 x 32 units", *(f"F1 {one['dev_f1']['compact']:.1f}" for one in (dense, iss)), *_saved([iss])],
    ]
    return "\n".join(
        [
            *(f"{wrapped(sentence)}\n" for sentence in full_length.paper_size(found)),
            "| network | dense | with ISS | units removed | multiply-adds | evaluation |",
            "|---|---|---|---|---|---|",
            *(f"| {' | '.join([*row, ''][:6])} |" for row in rows),
        ]
    )


def _perplexities(name: str, one: comparisons.Comparison) -> list[str]:
    iss = one.best
    dense = f"perplexity {one.reference:.2f}{'' if one.dense else ' (documented)'}"
    ours = f"perplexity {comparisons.mean(comparisons.perplexity, iss):.2f}"
    return [name, dense, ours, *_saved(iss), f"{comparisons.mean(comparisons.faster, iss):.1f}x as fast"]


def _saved(runs: list[Result]) -> list[str]:
    """Share of the units removed, and the factor between the multiply-adds of full and compact model."""
    removed = sum(map(comparisons.gone, runs)) / len(runs)
    factors = [one["multiply_adds"]["full"] / one["multiply_adds"]["compact"] for one in runs]
    return [f"{removed:.0%}", f"{sum(factors) / len(factors):.1f}x fewer"]


def speed() -> str:
    """The main results of `python -m benchmarks`: a line for each kind of processor with processes in turn."""
    rows = []
    for kind, entries in record.load().items():
        figures = values(record.figures_of(entries))
        if figures["step_small_vs_torch"] is None:
            continue
        steps = " / ".join(number(figures[f"step_{size}_vs_torch"]) for size in ("small", "medium", "large"))
        over = figures["compact_vs_onnxruntime"]
        compact = f"{number(figures['compact_vs_torch'])} ({number(over and 1 / over)})"
        measured = [each.met(value, kind) for each in TARGETS if (value := figures[each.name]) is not None]
        met = f"[{sum(measured)} of {len(measured)}](benchmarks/RESULTS.md)"
        rows.append([kind, steps, compact, met])
    steps, compact = "training 2x200 / 2x650 / 2x1500", "evaluation 373 + 315 (brackets: ONNX Runtime)"
    return table(["times as fast as PyTorch", steps, compact, "targets met"], rows, words=4)


def small() -> str:
    """The table of the quick run: full against compact model."""
    result, _, command = load("small")
    rows = {
        "units of the two layers": [units(result, one) for one in ("full", "compact")],
        "parameters": [f"{result['parameters'][one]:,}" for one in ("full", "compact")],
        "multiply-adds per word": [f"{result['multiply_adds'][one]:,}" for one in ("full", "compact")],
        "validation perplexity": [f"{result['valid_perplexity'][one]:.2f}" for one in ("full", "compact")],
        "test perplexity": [f"{result['test_perplexity'][one]:.2f}" for one in ("full", "compact")],
        "seconds to evaluate both": [f"{result['seconds'][f'evaluate_{one}']:.1f}" for one in ("full", "compact")],
    }
    table = [f"| {name} | {full} | {compact} |" for name, (full, compact) in rows.items()]
    found = difference_phrase(result["max_output_difference"])
    largest = f"the largest logit is {result['largest_logit']:.1f}"
    return "\n".join(
        [
            f"`{command}`, {_setup(result)}:",
            "",
            "| | full | compact |",
            "|---|---|---|",
            *table,
            "",
            f"Over {result['compared_words']:,} words the outputs of both models {found}; {largest}.",
        ]
    )


def mutations() -> str:
    """The mutation score of the conformance suite."""
    score = json.loads((RESULTS / "mutation_score.json").read_text())
    share, second = score["caught"] / score["mutants"], score["second_set"]
    found = second["caught"] / second["mutants"]
    verdict = "met" if found >= 0.97 else "missed"
    return wrapped(
        f"The check detects {score['caught']} of {score['mutants']} deliberately wrong ports (mutation score "
        f"{share:.0%}) and names {score['named']} of {score['known']} known mistakes. Of {second['mutants']} "
        f"ports written afterwards it detects {second['caught']} ({found:.0%}; target 97%: "
        f"{verdict}; `python tests/test_mutations.py`)."
    )


def measured() -> str:
    """The quick runs of the language models, dense and with ISS, and their commands."""
    names = sorted(path.parent.name for path in RESULTS.glob("*/metrics.jsonl"))
    names = [name for name in names if not name.startswith("squad")]
    rows = [_row(name) for name in names]
    text = [
        "These runs are for learning and last two or four epochs. Perplexity with batch 1 over the whole text; "
        "seed 0, two cores. Minutes are of several processors and cannot be compared between networks.",
        "",
        "| run | corpus | units left | parameters | valid | test | minutes |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "| run | command |",
        "|---|---|",
        *(f"| {name} | `{load(name)[2]}` |" for name in names),
        "",
    ]
    for model, name in QUICK.items():
        if name in names:
            text += [_quick_run(name, "`--small`" if name == "small" else f"`--small --model {model}`"), ""]
        if name + EMBEDDED in names:
            text += [_quick_run(name + EMBEDDED, "`--small --corpus embedded`"), ""]
    return "\n".join(text[:-1])


def _quick_run(name: str, flags: str) -> str:
    """The share of units that a quick run removes, and its perplexity against the dense run's."""
    (ours, *_), (dense, *_) = load(name), load(f"{name}-dense")
    perplexity, twin = ours["valid_perplexity"]["compact"], dense["valid_perplexity"]["full"]
    return (
        f"{flags} removes {comparisons.gone(ours):.0%} of all units; its compact model's validation perplexity, "
        f"{perplexity:.2f}, is {abs(perplexity / twin - 1):.1%} {'above' if perplexity > twin else 'below'} that "
        f"of the same network trained with `--method dense` for the same number of epochs, {twin:.2f}."
    )


def _row(name: str) -> str:
    result, _, _ = load(name)
    size = f"{result['parameters']['compact']:,}"
    perplexities = " | ".join(f"{result[f'{split}_perplexity']['compact']:.2f}" for split in ("valid", "test"))
    alone = result["settings"]["threads"] is None
    minutes = f"{result['seconds']['train'] / 60:.1f}" if alone else ""
    cells = (name, result["corpus"]["name"], units(result, "compact"), size, perplexities, minutes)
    return f"| {' | '.join(cells)} |"


def _setup(result: Result) -> str:
    """Training time, corpus, machine and versions of a run."""
    versions, corpus = result["versions"], result["corpus"]
    blas = ", ".join(
        f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads" for pool in versions["blas"]
    )
    return (
        f"{result['seconds']['train'] / 60:.1f} minutes of training on {corpus['name']} "
        f"({corpus['train']:,} words, vocabulary {corpus['vocabulary']:,}); "
        f"{versions['machine']}, Python {versions['python']}, numpy {versions['numpy']}, "
        f"{blas}"
    )


BLOCKS: dict[str, Callable[[], str]] = {
    "headline": headline,
    "speed": speed,
    "small": small,
    "mutations": mutations,
    "measured": measured,
    "full": full_length.section,
    "search": search.section,
    "squad": questions.section,
    "recipes": recipes.table_of_results,
    "ptb_settings": partial(flags.settings, issref.ptb.settings),
    "ptb_presets": partial(flags.presets, issref.ptb.settings),
    "squad_settings": partial(flags.settings, issref.squad.settings),
    "squad_presets": partial(flags.presets, issref.squad.settings),
}


def picture() -> str:
    """Return the picture of the quick run: the animated one, if the stored run has a history."""
    return "film.gif" if (RESULTS / "small" / "film.gif").exists() else "training.png"


def draw_picture() -> None:
    """Draw the animated picture of the quick run, if the stored run has a history."""
    from issref.report.film import draw_film
    from issref.report.history import read_history
    from issref.report.run import read_run

    if history := read_history(run := read_run(RESULTS / "small")):
        draw_film(run, history, RESULTS / "small" / "film.gif")


def written(page: str) -> str:
    """Return the text of a page with its picture, and with each marked block generated anew from its source."""
    page = re.sub(r"(results/small/)(training\.png|film\.gif)", rf"\1{picture()}", page)
    for name in re.findall(r"<!-- /(\w+) -->", page):
        block = f"<!-- {name} -->\n{BLOCKS[name]()}\n<!-- /{name} -->"
        page = re.sub(f"<!-- {name} -->.*?<!-- /{name} -->", lambda _, text=block: text, page, flags=re.DOTALL)
    return page


if __name__ == "__main__":
    full_length.draw()
    search.draw()
    draw_picture()
    for path in PAGES:
        path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
