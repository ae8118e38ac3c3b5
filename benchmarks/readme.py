"""Write the README's measured parts from the result files of real runs: `python -m benchmarks.readme`.

Each folder of `benchmarks/results` holds what a run wrote (result.json, metrics.jsonl, figures) and command.txt,
the command that made it. Nothing between the README's markers is typed by hand; a test compares.
"""

import json
import re
from pathlib import Path
from typing import Any

from benchmarks import full_length
from benchmarks.kept import RESULTS, load, units

README = Path(__file__).parents[1] / "README.md"


def small() -> str:
    """The tour's table: full against compact."""
    result, _, command = load("small")
    rows = {
        "units of the two layers": [units(result, one) for one in ("full", "compact")],
        "parameters": [f"{result['parameters'][one]:,}" for one in ("full", "compact")],
        "multiply-adds a word": [f"{result['multiply_adds'][one]:,}" for one in ("full", "compact")],
        "validation perplexity": [f"{result['valid_perplexity'][one]:.2f}" for one in ("full", "compact")],
        "test perplexity": [f"{result['test_perplexity'][one]:.2f}" for one in ("full", "compact")],
        "seconds to evaluate both": [f"{result['seconds'][f'evaluate_{one}']:.1f}" for one in ("full", "compact")],
    }
    table = [f"| {name} | {full} | {compact} |" for name, (full, compact) in rows.items()]
    difference = f"{result['max_output_difference']:.1e}, the largest logit being {result['largest_logit']:.1f}"
    return "\n".join(
        [
            f"`{command}`, {_where(result)}:",
            "",
            "| | full | compact |",
            "|---|---|---|",
            *table,
            "",
            f"Over {result['compared_words']:,} words the outputs of the two differ by at most {difference}.",
        ]
    )


def mutations() -> str:
    """The mutation score of the conformance suite."""
    score = json.loads((RESULTS / "mutation_score.json").read_text())
    share = score["caught"] / (score["mutants"] - len(score["equivalent"]))
    return (
        f"Mutation score {share:.0%}: of {score['mutants']} wrong implementations the suite catches "
        f"{score['caught']}, and the diagnosis names {score['named']} of the {score['known']} known mistakes "
        "among them (`python tests/test_mutations.py`)."
    )


def measured() -> str:
    """The tours of the language models, dense and with ISS, and the command of each."""
    names = sorted(path.parent.name for path in RESULTS.glob("*/result.json"))
    names = [name for name in names if not name.startswith("squad")]
    rows = [_row(name) for name in names]
    text = [
        "Perplexity with batch 1 over the whole text, two cores, one seed (0) each. Minutes of training are given "
        "for runs that went before all else on the machine; those with `--threads 1` shared it.",
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
    text += [_tour("small", "`--small`"), "", _tour("rhn-small", "`--small --model rhn`")]
    return "\n".join(text)


def squad() -> str:
    """The reader's tour, dense and with ISS: scores, sizes, time of both runs together."""
    (iss, _, command), (dense, _, twin) = load("squad-small"), load("squad-small-dense")
    settings, questions = iss["settings"], f"{iss['corpus']['dev']:,}"
    full, left = (sum(iss["components"][one].values()) for one in ("full", "compact"))
    below = dense["dev_f1"]["compact"] - iss["dev_f1"]["compact"]
    lines = [
        f"`{command}`, and its dense twin `{twin}`: {iss['corpus']['train']:,} questions of "
        f"{settings['articles']} articles, {settings['steps']:,} steps of {settings['batch']} each. EM and F1 on "
        f"the {questions} dev questions whose context has up to {settings['dev_limit']} tokens, and F1 on all "
        f"{iss['all_dev']['questions']:,} of dev. {_together(iss, dense)}",
        "",
        "| | units of g0, g1, g2 | parameters | EM | F1 | F1, all of dev | minutes |",
        "|---|---|---|---|---|---|---|",
        _reader("untrained", iss, "full", "untrained"),
        _reader("dense", dense, "compact", "compact"),
        _reader("ISS, compact", iss, "compact", "compact"),
        *(_longer(name) for name in ("squad-1500-dense", "squad-1500") if (RESULTS / name).exists()),
        "",
        f"{1 - left / full:.0%} of the {full} grouped units are gone, at {abs(below):.2f} F1 "
        f"{'below' if below > 0 else 'above'} dense. Wanted were a third of them or more at 1 F1 below or less: "
        f"{'met' if below <= 1 and 3 * left <= 2 * full else 'missed'}. The logits of the full and the compact "
        f"model differ by at most {iss['max_output_difference']:.1e}.",
    ]
    return "\n".join(lines)


def _longer(name: str) -> str:
    """The same with more steps, which dense gains more by."""
    run, _, _ = load(name)
    return _reader(f"{run['settings']['steps']:,} steps: {run['settings']['method']}", run, "compact", "compact")


def _reader(name: str, run: dict[str, Any], size: str, scored: str) -> str:
    cells = [name, units(run, size), f"{run['parameters'][size]:,}"]
    cells += [f"{run[measure][scored]:.1f}" for measure in ("dev_em", "dev_f1")]
    trained = scored != "untrained"
    cells += [f"{run['all_dev']['f1']:.1f}", f"{run['seconds']['train'] / 60:.1f}"] if trained else ["", ""]
    return f"| {' | '.join(cells)} |"


def _together(*runs: dict[str, Any]) -> str:
    minutes = f"{sum(run['seconds']['train'] for run in runs) / 60:.1f} minutes"
    if {run["settings"]["threads"] for run in runs} == {1}:
        return f"Each trained with one thread while other work had the second core: {minutes} of both together."
    return f"They trained one after the other on two cores: {minutes} together."


def _tour(name: str, flags: str) -> str:
    """What a tour removes, and what that costs beside its dense twin."""
    (ours, *_), (dense, *_) = load(name), load(f"{name}-dense")
    compact, full = (sum(ours["components"][one].values()) for one in ("compact", "full"))
    perplexity, twin = ours["valid_perplexity"]["compact"], dense["valid_perplexity"]["full"]
    return (
        f"{flags} removes {1 - compact / full:.0%} of all units; its compact model's validation perplexity, "
        f"{perplexity:.2f}, is {abs(perplexity / twin - 1):.1%} {'above' if perplexity > twin else 'below'} that "
        f"of the same network trained with `--method dense` for as many epochs, {twin:.2f}."
    )


def _row(name: str) -> str:
    result, _, _ = load(name)
    size = f"{result['parameters']['compact']:,}"
    perplexities = " | ".join(f"{result[f'{split}_perplexity']['compact']:.2f}" for split in ("valid", "test"))
    alone = result["settings"]["threads"] is None
    minutes = f"{result['seconds']['train'] / 60:.1f}" if alone else ""
    cells = (name, result["corpus"]["name"], units(result, "compact"), size, perplexities, minutes)
    return f"| {' | '.join(cells)} |"


def _where(result: dict[str, Any]) -> str:
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


def written(readme: str) -> str:
    """The README with every measured part as the result files have it now."""
    parts = {
        "small": small(),
        "mutations": mutations(),
        "measured": measured(),
        "full": full_length.section(),
        "squad": squad(),
    }
    for name, part in parts.items():
        marked = f"<!-- {name} -->\n{part}\n<!-- /{name} -->"
        readme = re.sub(
            f"<!-- {name} -->.*?<!-- /{name} -->", lambda _, text=marked: text, readme, flags=re.DOTALL
        )
    return readme


if __name__ == "__main__":
    full_length.draw()
    README.write_text(written(README.read_text()))
