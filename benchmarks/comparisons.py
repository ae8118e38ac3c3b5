"""Whole runs compared: dense, with ISS, direct design. All numbers are means over the seeds of equal settings."""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from benchmarks.kept import units
from issref.ptb.settings import PRESETS

DIRECT = "lstm direct design"
Result = dict[str, Any]


class Network(NamedTuple):
    """A network of whole runs: preset, description, documented perplexities of its dense form, if any."""

    preset: str
    text: str
    documented: tuple[float, float] | None = None  # valid, test; in the comment that heads ptb_word_lm.py
    target: tuple[int, float] | None = None  # at most so many units, and at most this test perplexity
    schedule_of: str | None = None  # the preset with the schedule of the documented run


NETWORKS = {
    "lstm 1500 + 1500": Network(
        "`iss-large`", "LSTM, 1500 + 1500 units", (82.62, 78.29), (700, 79.5), "zaremba-large"
    ),
    "lstm 650 + 650": Network(
        "`zaremba-medium`", "LSTM, 650 + 650 units", (86.16, 82.07), (650, 83.6), "zaremba-medium"
    ),
    "lstm 200 + 200": Network("`zaremba-small`", "LSTM, 200 + 200 units", (121.39, 115.91)),
    "rhn 200": Network("The recurrent highway network", "RHN, 200 units, 4 micro-layers"),
}


SCHEDULE = ("schedule", "epochs", "learning_rate", "flat_epochs", "decay")


class Comparison(NamedTuple):
    """Runs of one network: the dense ones, and ISS runs of equal settings that are compared with them.

    They are compared, and chosen, on the validation text; the test text is only reported.
    """

    dense: list[Result]
    reference: float  # their test perplexity, or the documented one if there are none
    lossless: list[Result]  # the smallest ISS runs on the dense runs' schedule that are no worse; may be empty
    above: list[Result]  # the best ISS runs on this schedule that are worse; may be empty
    others: list[list[Result]]  # ISS runs on schedules on which no dense network was trained

    @property
    def best(self) -> list[Result]:
        """The ISS runs to show: the first of these kinds that there are."""
        return self.lossless or self.above or min(self.others, key=lambda seeds: mean(valid, seeds))


def kind(result: Result) -> str:
    """Return the network and the method of a run; "direct design" is a dense run at widths that ISS found."""
    settings = result["settings"]
    direct = settings["method"] == "dense" and settings["embed_size"] not in (None, settings["hidden_sizes"][0])
    return f"{settings['model']} {'direct design' if direct else settings['method']}"


def network(result: Result) -> str:
    """Return the network of a run, with its units before training; a key of NETWORKS."""
    return f"{result['settings']['model']} {units(result, 'full')}"


def left(result: Result) -> int:
    """Return the number of units of the compact model."""
    return sum(result["components"]["compact"].values())


def gone(result: Result) -> float:
    """Return the share of all units that was removed."""
    return 1 - left(result) / sum(result["components"]["full"].values())


def perplexity(result: Result) -> float:
    """Return the test perplexity of the compact model, batch 1."""
    return result["test_perplexity"]["compact"]


def faster(result: Result) -> float:
    """Return how many times as fast as the full model the compact model is evaluated."""
    return result["seconds"]["evaluate_full"] / result["seconds"]["evaluate_compact"]


def valid(result: Result) -> float:
    """Return the validation perplexity of the compact model, batch 1."""
    return result["valid_perplexity"]["compact"]


def schedule(result: Result) -> tuple[float, ...]:
    """Return the settings of the learning rate."""
    return tuple(result["settings"][name] for name in SCHEDULE)


def compared(found: Iterable[Result], name: str) -> Comparison | None:
    """Compare the ISS runs of a network with its dense ones; None without ISS runs or a reference."""
    found = [one for one in found if network(one) == name]
    dense, ours = ([one for one in found if kind(one).endswith(f" {method}")] for method in ("dense", "prox"))
    known = NETWORKS[name].documented
    if not ours or not (dense or known):
        return None
    bound, reference = known or (0.0, 0.0)
    if dense:
        bound, reference = mean(valid, dense), mean(perplexity, dense)
    schedules = set(map(schedule, dense))
    if preset := NETWORKS[name].schedule_of:
        schedules |= {schedule({"settings": PRESETS[preset].flat()})}
    same = alike(one for one in ours if schedule(one) in schedules)
    return Comparison(
        dense,
        reference,
        max(
            (seeds for seeds in same if mean(valid, seeds) <= bound),
            key=lambda seeds: mean(gone, seeds),
            default=[],
        ),
        min(
            (seeds for seeds in same if mean(valid, seeds) > bound),
            key=lambda seeds: mean(valid, seeds),
            default=[],
        ),
        alike(one for one in ours if schedule(one) not in schedules),
    )


def findings(found: Sequence[Result]) -> list[str]:
    """Return one paragraph for each network that compares ISS with dense, and one for each direct design."""
    lines = []
    for name, known in NETWORKS.items():
        if one := compared(found, name):
            runs = [result for result in found if network(result) == name]
            lines += [
                " ".join([f"{known.preset}: {_reference(one, known)}", *_ours(one), *_target(known, runs)]),
                "",
            ]
    ours = [one for one in found if one["settings"]["method"] == "prox"]
    return lines + [_direct(one, ours) for one in found if kind(one) == DIRECT]


def alike(found: Iterable[Result]) -> list[list[Result]]:
    """Group results whose settings differ in the seed only."""
    groups: dict[str, list[Result]] = {}
    for result in found:
        settings = result["settings"] | {"seed": 0, "threads": None}
        groups.setdefault(json.dumps(settings), []).append(result)
    return list(groups.values())


def mean(measure: Callable[[Result], float], seeds: Iterable[Result]) -> float:
    """Return the mean of a measure over several runs."""
    return statistics.mean(map(measure, seeds))


def _reference(one: Comparison, known: Network) -> str:
    documented = f"the released code documents {known.documented[1]:.2f}" if known.documented else ""
    if one.dense:
        text = f"the dense model has test perplexity {one.reference:.2f}{_seeds(one.dense)}"
        return f"{text}; {documented}." if documented else f"{text}."
    return f"the dense model was not trained; {documented} on the test text."


def _ours(one: Comparison) -> list[str]:
    text = []
    if best := one.lossless:
        sizes = " and ".join(str(left(result)) for result in best)
        text = [
            f"The smallest ISS model that is no worse on the validation text has {sizes} units: "
            f"{mean(gone, best):.0%} are removed; test perplexity {mean(perplexity, best):.2f}{_seeds(best)}."
        ]
    if near := one.above:
        higher = mean(perplexity, near) / one.reference - 1
        text.append(
            f"{'The best of the others' if best else 'The best ISS model, which is worse'}: "
            f"{mean(perplexity, near):.2f}{_seeds(near)}, {higher:+.1%}, with {mean(gone, near):.0%} removed."
        )
    if one.others:
        found = [
            f"{mean(perplexity, one):.2f} with {mean(gone, one):.0%} removed{_seeds(one)}" for one in one.others
        ]
        text.append(f"On schedules on which no dense model was trained: {', '.join(found)}.")
    return text


def _target(known: Network, ours: Iterable[Result]) -> list[str]:
    """Say whether the best run on the validation text, of those with few enough units, meets the target."""
    if known.target is None:
        return []
    units, most = known.target
    small = [one for one in alike(ours) if mean(left, one) <= units]
    met = bool(small) and mean(perplexity, min(small, key=lambda one: mean(valid, one))) <= most
    return [f"Target: at most {units} units at {most:.2f} or better. {'Met' if met else 'Missed'}."]


def _seeds(found: list[Result]) -> str:
    return f" (mean of {len(found)} seeds)" if len(found) > 1 else " (one seed)"


def _direct(direct: Result, ours: list[Result]) -> str:
    """Compare direct design with the ISS run that found its sizes, on the same schedule."""
    (twin,) = (
        one
        for one in ours
        if one["parameters"]["compact"] == direct["parameters"]["compact"]
        and schedule(one) == schedule(direct)
        and one["settings"]["seed"] == direct["settings"]["seed"]
    )
    return (
        f"Direct design, {units(direct, 'compact')} units trained dense from scratch, has test perplexity "
        f"{perplexity(direct):.2f}; ISS, which found these sizes during training, {perplexity(twin):.2f} (on the "
        "same schedule, one seed each).\n"
    )
