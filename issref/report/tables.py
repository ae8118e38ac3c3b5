"""The numbers of a run as text and table cells."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from issref.report.measures import in_words
from issref.report.run import Run
from issref.training.console import printable

BOTH = ("full", "compact")
MEASURED = ("valid_perplexity", "test_perplexity", "dev_em", "dev_f1")  # in result.json, for both models


class Table(NamedTuple):
    """A table whose first column names the rows; `bars` is empty or has a number from 0 to 1 for each row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    bars: Sequence[float] = ()


def listed(values: Any) -> str:
    """Return a list as 1 and 2 and 3, any other value as text, as it can be printed."""
    return printable(" and ".join(map(str, values)) if isinstance(values, list | tuple) else str(values))


def total(sizes: Mapping[str, int]) -> str:
    """Return the sizes of all spaces as a sum: 44 + 131."""
    return " + ".join(map(str, sizes.values()))


def change(both: Mapping[str, float]) -> str:
    """Return a change as -47 %, with the minus sign and the unbreakable space of Unicode."""
    if not both["full"] or both["full"] == both["compact"]:
        return "0 %"
    return f"{100 * (both['compact'] / both['full'] - 1):+.0f}\N{NO-BREAK SPACE}%".replace("-", "\N{MINUS SIGN}")


def result_table(run: Run, result: Mapping[str, Any]) -> Table:
    """Return full against compact model: sizes and their change in percent, measures and their difference."""
    rows: list[tuple[str, ...]] = []
    for space in result["components"]["full"]:
        counts = {one: result["components"][one][space] for one in BOTH}
        rows.append((f"components, {space}", *_cells(counts, ",d"), change(counts)))
    for key, name in (("parameters", "parameters"), ("multiply_adds", "multiply-adds a word")):
        if key in result:
            rows.append((name, *_cells(result[key], ",d"), change(result[key])))
    for key in measured(result):
        difference = result[key]["compact"] - result[key]["full"]
        rows.append((in_words(key), *_cells(result[key], ".3f"), f"{difference:+.1e}" if difference else "0"))
    seconds = {one: result["seconds"][f"evaluate_{one}"] for one in BOTH if f"evaluate_{one}" in result["seconds"]}
    if len(seconds) == 2:
        rows.append(("seconds to evaluate", *_cells(seconds, ",.1f"), change(seconds)))
    return Table(("", "full", "compact", "change"), [tuple(map(_minus, row)) for row in rows])


def measured(result: Mapping[str, Any]) -> list[str]:
    """Return the keys of the measures of full and compact model, such as valid_perplexity and dev_f1."""
    return [key for key in MEASURED if key in result]


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
    head = [
        "epoch",
        "rate",
        "training loss" if measure.rising else "train",
        "valid",
        *(f"alive, {space}" for space in run.rows[-1]["alive"]),
        "seconds",
    ]
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
    """Return a row for each run: size and measures of its compact model, method with strength, seed."""
    keys = list(dict.fromkeys(key for run in runs.values() if run.result for key in measured(run.result)))
    head = ["run", "components", "parameters", "change", "multiply-adds", *map(in_words, keys), "minutes to train"]
    rows = []
    for label, run in runs.items():
        of = run.settings
        strength = of.get("strength", "") if of.get("method") in ("prox", "released") else ""
        strength = ", ".join(map(str, strength)) if isinstance(strength, list) else str(strength)
        how = [f"{of.get('method', '')} {strength}".strip(), str(of.get("seed", ""))]
        found = _found(run.result, keys) if run.result else ["not finished", *[""] * (len(keys) + 4)]
        rows.append([label, *found, *how])
    return Table([*head, "method", "seed"], rows)


def _found(result: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    full, small = (total(result["components"][one]) for one in BOTH)
    return [
        small if full == small else f"{full} \N{RIGHTWARDS ARROW} {small}",
        f"{result['parameters']['compact']:,}",
        change(result["parameters"]),
        f"{result['multiply_adds']['compact']:,}" if "multiply_adds" in result else "",
        *(f"{result[key]['compact']:.2f}" if key in result else "" for key in keys),
        f"{result['seconds']['train'] / 60:.1f}",
    ]
