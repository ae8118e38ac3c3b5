"""The numbers of a run as text and table cells."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from issref.models import LANGUAGE_MODELS
from issref.report.measures import in_words, measure_of
from issref.report.run import Run
from issref.report.style import Norms, Rows

BOTH = ("full", "compact")


class Table(NamedTuple):
    """A table whose first column names the rows; `bars` is empty or has a number from 0 to 1 for each row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    bars: Sequence[float] = ()


def listed(values: Any) -> str:
    """Return a list as 1 and 2 and 3, any other value as text."""
    return " and ".join(map(str, values)) if isinstance(values, list | tuple) else str(values)


def about(run: Run) -> dict[str, str]:
    """Return what was trained, when, with which seed and versions."""
    of, result = run.settings, run.result or {}
    strength = f", strength {listed(of.get('strength'))}" if of.get("method") in ("prox", "released") else ""
    for unit in ("epoch", "step"):
        last = of.get(f"penalty_{unit}s")
        rest = of.get("final_penalty_scale")
        then = f"{rest:g} of it" if rest else "dense"
        strength += f", to {unit} {last}, then {then}" if strength and last else ""
    machine = result.get("versions", {})
    versions = [f"{name} {machine[name]}" for name in ("issref", "python", "numpy", "numba") if name in machine]
    versions += [f"{pool['internal_api']} {pool['version']}" for pool in machine.get("blas", ())]
    found = {
        "Model": _model(of),
        "Method": f"{of.get('method', 'not recorded')}{strength}",
        "Text": _corpus(result.get("corpus", {}), run.measure.unit) or str(of.get("corpus", "not recorded")),
        "Training": f"{of['epochs']} epochs" if "epochs" in of else f"{of.get('steps', 0):,} steps",
        "Seed": f"{of.get('seed')}",
        "Precision": str(of.get("dtype", "")),
        "When": run.when,
        "Versions": ", ".join(versions) or "recorded when a run ends",
        "Machine": machine.get("machine", ""),
    }
    return {name: text for name, text in found.items() if text}


def _model(settings: Mapping[str, Any]) -> str:
    if "hidden_size" in settings:
        return f"BiDAF of {settings['hidden_size']} units in each direction"
    try:
        model = LANGUAGE_MODELS[settings["model"]]
        return model.describe(model.configure(1, settings))
    except (KeyError, TypeError, ValueError):  # settings of another version
        return "not recorded"


def _corpus(corpus: Mapping[str, Any], unit: str) -> str:
    words = f", {corpus['train']:,} {unit} to train on" if "train" in corpus else ""
    vocabulary = f", vocabulary {corpus['vocabulary']:,}" if "vocabulary" in corpus else ""
    return f"{corpus.get('name', '')}{words}{vocabulary}"


def verdict(result: Mapping[str, Any]) -> str:
    """Return the main result: the components removed, the difference between full and compact model."""
    full, small = (result["components"][one] for one in BOTH)
    left = "No component was removed"
    if full != small:
        left = f"Of {_sum(full)} components {_sum(small)} are left: {_change(result['parameters'])} parameters"
        left += f", {_change(result['multiply_adds'])} multiply-adds" if "multiply_adds" in result else ""
    same = ""
    if "max_output_difference" in result:
        words = f"Over {result['compared_words']:,} words the" if "compared_words" in result else "The"
        most = f"the largest output is {result['largest_logit']:.1f}" if "largest_logit" in result else ""
        same = f" {words} outputs of the full and the compact model differ by at most "
        same += f"{result['max_output_difference']:.1e}{most and '; '}{most}."
    return f"{left}.{same}"


def cuts(result: Mapping[str, Any]) -> str:
    """Return how often components were cut out during training; empty if never."""
    found = result.get("cuts", {})
    if not found.get("count"):
        return ""
    difference = found["max_output_difference"]
    change = f"differed by at most {difference:.1e}" if difference else "stayed equal"
    return (
        f"Components were cut out {found['count']} times during training; at each cut the outputs over the next "
        f"batch {change}."
    )


def _sum(sizes: Mapping[str, int]) -> str:
    return " + ".join(map(str, sizes.values()))


def _change(both: Mapping[str, float]) -> str:
    """Return a change as -47 %, with the minus sign of Unicode."""
    if not both["full"] or both["full"] == both["compact"]:
        return "0 %"
    return f"{100 * (both['compact'] / both['full'] - 1):+.0f} %".replace("-", "\N{MINUS SIGN}")


def result_table(run: Run, result: Mapping[str, Any]) -> Table:
    """Return full against compact model: sizes and their change in percent, measures and their difference."""
    rows: list[tuple[str, ...]] = []
    for space in result["components"]["full"]:
        counts = {one: result["components"][one][space] for one in BOTH}
        rows.append((f"components, {space}", *_cells(counts, ",d"), _change(counts)))
    for key, name in (("parameters", "parameters"), ("multiply_adds", "multiply-adds a word")):
        if key in result:
            rows.append((name, *_cells(result[key], ",d"), _change(result[key])))
    for key in measured(result):
        difference = result[key]["compact"] - result[key]["full"]
        rows.append((in_words(key), *_cells(result[key], ".3f"), f"{difference:+.1e}" if difference else "0"))
    seconds = {one: result["seconds"][f"evaluate_{one}"] for one in BOTH if f"evaluate_{one}" in result["seconds"]}
    if len(seconds) == 2:
        rows.append(("seconds to evaluate", *_cells(seconds, ",.1f"), _change(seconds)))
    return Table(("", "full", "compact", "change"), [tuple(map(_minus, row)) for row in rows])


def measured(result: Mapping[str, Any]) -> list[str]:
    """Return the keys of the measures of full and compact model, such as valid_perplexity and dev_f1."""
    known = ("components", "parameters", "multiply_adds")
    return [
        key
        for key, found in result.items()
        if key not in known and isinstance(found, dict) and {*BOTH} <= found.keys()
    ]


def _cells(both: Mapping[str, float], form: str) -> Iterator[str]:
    return (format(both[one], form) for one in BOTH)


def _minus(cell: str) -> str:
    return cell.replace("-", "\N{MINUS SIGN}", 1) if cell[:1] == "-" else cell


def time_table(result: Mapping[str, Any]) -> Table:
    """Return the seconds of training and of each evaluation."""
    seconds, total = result["seconds"], sum(result["seconds"].values()) or 1
    rows = [
        (key.replace("_", " "), f"{value:,.1f}", f"{100 * value / total:.0f} %") for key, value in seconds.items()
    ]
    return Table(("part", "seconds", "share"), rows, [value / total for value in seconds.values()])


def epochs_table(run: Run) -> Table:
    """Return a row for each epoch: rate, measures, components alive, seconds, and for text words a second."""
    measure = run.measure
    words = (run.result or {}).get("corpus", {}).get("train") if measure.unit == "words" else None
    ends = [0.0, *(row["seconds"] for row in run.rows)]
    spent = [max(end - start, 0.0) for start, end in pairwise(ends)]
    head = ["epoch", "rate", "train", "valid", *(f"alive, {space}" for space in run.rows[-1]["alive"]), "seconds"]
    rows = [
        [
            str(row["epoch"]),
            _number(row.get("learning_rate"), ".4g"),
            _number(row.get(measure.train), ".2f"),
            _number(row[measure.valid], ".2f"),
            *(f"{count:,}" for count in row["alive"].values()),
            f"{seconds:,.1f}",
            *([f"{words / seconds:,.0f}" if seconds else ""] if words else []),
        ]
        for row, seconds in zip(run.rows, spent, strict=True)
    ]
    return Table(head + (["words a second"] if words else []), rows, [s / (max(spent) or 1) for s in spent])


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def settings_table(run: Run) -> Table:
    """Return all settings."""
    return Table(("setting", "value"), [(name, listed(value)) for name, value in run.settings.items()])


def comparison_table(runs: Mapping[str, Run]) -> Table:
    """Return a row for each run: the size of its compact model, the model's measures, method, strength, seed."""
    keys = list(dict.fromkeys(key for run in runs.values() if run.result for key in measured(run.result)))
    head = ["run", "components", "parameters", "change", "multiply-adds", *map(in_words, keys), "minutes"]
    rows = []
    for label, run in runs.items():
        of = run.settings
        strength = of.get("strength", ()) if of.get("method") in ("prox", "released") else ()
        how = [str(of.get("method", "")), ", ".join(map(str, strength)), str(of.get("seed", ""))]
        found = _found(run.result, keys) if run.result else ["not finished", *[""] * (len(keys) + 4)]
        rows.append([label, *found, *how])
    return Table([*head, "method", "strength", "seed"], rows)


def _found(result: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    full, small = (_sum(result["components"][one]) for one in BOTH)
    return [
        small if full == small else f"{full} \N{RIGHTWARDS ARROW} {small}",
        f"{result['parameters']['compact']:,}",
        _change(result["parameters"]),
        f"{result['multiply_adds']['compact']:,}" if "multiply_adds" in result else "",
        *(f"{result[key]['compact']:.2f}" if key in result else "" for key in keys),
        f"{sum(result['seconds'].values()) / 60:.1f}",
    ]


# ---------------------------------------------------------------- alternative texts of figures


def describe_measure(rows: Rows) -> str:
    """Return the first and the last value of the measure."""
    measure, first, last = measure_of(rows), rows[0], rows[-1]
    train = f", training {last[measure.train]:.4g}" if measure.train in last else ""
    return (
        f"{measure.name} over {len(rows)} epochs: validation {first[measure.valid]:.4g} after the first, "
        f"{last[measure.valid]:.4g} after the last{train}."
    )


def describe_alive(rows: Rows) -> str:
    """Return the first and the last number of components alive in each space."""
    first, last = rows[0]["trace"][0]["alive"], rows[-1]["alive"]
    return (
        "Components alive: " + ", ".join(f"{space} from {first[space]} to {last[space]}" for space in last) + "."
    )


def describe_norms(norms: Norms) -> str:
    """Return how many norms are zero in each space."""
    dead = (
        f"{space}, {int((values == 0).sum())} of {len(values)} exactly zero" for space, values in norms.items()
    )
    return f"Histogram of the norms of the groups: {'; '.join(dead)}."
