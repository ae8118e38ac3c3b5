"""The part of docs/results.md on question answering: BiDAF's quick runs, dense and with ISS."""

from benchmarks.comparisons import Result
from benchmarks.kept import load, units
from issref.training.console import difference_phrase


def section() -> str:
    """BiDAF's quick run, dense and with ISS: scores, sizes, training time of both runs."""
    (iss, _, command), (dense, _, twin) = load("squad-small"), load("squad-small-dense")
    settings, questions = iss["settings"], f"{iss['corpus']['dev']:,}"
    full, left = (sum(iss["components"][one].values()) for one in ("full", "compact"))
    longer = ("squad-1500-dense", "squad-1500")
    below = dense["dev_f1"]["compact"] - iss["dev_f1"]["compact"]
    lines = [
        f"`{command}`, and the same run without ISS, `{twin}`: {iss['corpus']['train']:,} questions of "
        f"{settings['articles']} articles, {settings['steps']:,} steps of {settings['batch']} each. EM and F1 on "
        f"the {questions} dev questions whose context has up to {settings['dev_limit']} words, and F1 on all "
        f"{iss['all_dev']['questions']:,} of dev. {_together(iss, dense)}",
        "",
        "| | units of g0, g1, g2 | parameters | EM | F1 | F1, all of dev | minutes |",
        "|---|---|---|---|---|---|---|",
        _bidaf_row("untrained", iss, "full", "untrained"),
        _bidaf_row("dense", dense, "compact", "compact"),
        _bidaf_row("ISS, compact", iss, "compact", "compact"),
        *map(_longer, longer),
        "",
        f"ISS removes {1 - left / full:.0%} of the {full} grouped units; its F1 is {abs(below):.2f} "
        f"{'below' if below > 0 else 'above'} the dense model's. Target: remove a third for at most 1 F1. "
        f"{'Met' if below <= 1 and 3 * left <= 2 * full else 'Missed'}. The logits of the full and the compact "
        f"model {difference_phrase(iss['max_output_difference'])}.",
        "",
        "The longer runs: " + ", ".join(f"`{load(name)[2]}`" for name in longer) + ".",
    ]
    return "\n".join(lines)


def _longer(name: str) -> str:
    run, _, _ = load(name)
    return _bidaf_row(
        f"{run['settings']['steps']:,} steps: {run['settings']['method']}", run, "compact", "compact"
    )


def _bidaf_row(name: str, run: Result, size: str, scored: str) -> str:
    cells = [name, units(run, size), f"{run['parameters'][size]:,}"]
    cells += [f"{run[measure][scored]:.1f}" for measure in ("dev_em", "dev_f1")]
    trained = scored != "untrained"
    cells += [f"{run['all_dev']['f1']:.1f}", f"{run['seconds']['train'] / 60:.1f}"] if trained else ["", ""]
    return f"| {' | '.join(cells)} |"


def _together(*runs: Result) -> str:
    minutes = f"{sum(run['seconds']['train'] for run in runs) / 60:.1f} minutes"
    if {run["settings"]["threads"] for run in runs} == {1}:
        return f"Both were trained with one thread while the second core was busy, in {minutes} together."
    return f"Both were trained one after the other on two cores, in {minutes} together."
