"""Read the folder of a run, finished or not."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from issref.data.schema import parse
from issref.iss.compact import expand
from issref.iss.groups import group_norms, iss_groups
from issref.iss.layout import Layout, Params
from issref.report import schema
from issref.report.measures import Measure, measure_of
from issref.report.style import Norms
from issref.training import history
from issref.training.checkpoint import read_whole
from issref.training.console import printable
from issref.training.models import FILE, alive_masks, load_model
from issref.training.options import flattened

MOST = 2**28  # weights of a full model that is drawn, four times the paper's largest: 1 GB


class Weights(NamedTuple):
    """The compact model of a run, the full one with zeros for removed components, and the group norms."""

    small: tuple[Params, Layout]
    full: tuple[Params, Layout]
    norms: Norms


@dataclass(frozen=True)
class Run:
    """A run, as its folder describes it: settings by name, a row for each epoch, the result or None, the date."""

    folder: Path
    settings: Mapping[str, Any]
    rows: list[dict[str, Any]]
    result: Mapping[str, Any] | None
    sizes: Mapping[str, int]
    """The number of components of each space before training."""
    when: str

    @property
    def name(self) -> str:
        """The name of the folder."""
        return printable(self.folder.resolve().name)

    @property
    def measure(self) -> Measure:
        """The measure of the run's quality."""
        return measure_of(self.rows)

    @property
    def status(self) -> str:
        """A warning if the run is not finished, or was resumed after its result; else empty."""
        unit = "epochs" if "epochs" in self.settings else "steps"
        done, wanted = len(self.rows), self.settings.get(unit)
        if self.result is None:
            return f"This run is not finished: {done} epochs done, {wanted} {unit} planned."
        ended = flattened(self.result["settings"]).get(unit)
        return "" if ended == wanted else f"The result is of {ended} {unit}; the run was resumed for {wanted}."


def read_run(folder: Path) -> Run:
    """Return the run in a folder. Raises ValueError if there is none, or if one of its files is damaged."""
    path = folder / "config.json"
    if not path.exists():
        raise ValueError(f"{folder}: expected the folder of a run, got one without config.json")
    settings = flattened(parse(str(path), dict[str, Any], read_whole(path, "the settings of a run")))
    parse(str(path), schema.Settings, json.dumps(settings))
    rows, result = read_rows(folder / "metrics.jsonl"), read_result(folder / "result.json")
    return Run(folder, settings, rows, result, _full_sizes(folder, rows, result), _when(folder, result))


def _full_sizes(
    folder: Path, rows: Sequence[Mapping[str, Any]], result: Mapping[str, Any] | None
) -> Mapping[str, int]:
    """Return the components before training: of the result, of the history, or of the first step.

    After the first step those that died in it are gone, as are those that were dead in the run's first weights.
    """
    first = rows[0]["trace"][0]["alive"] if rows else {}
    if result or not (path := folder / history.FILE).exists():
        return result["components"]["full"] if result else first
    head, layout, _ = read_lines(path)
    sizes = {space: layout.sizes[space] for space in head["spaces"]}
    if rows and (sizes.keys() != first.keys() or any(sizes[space] < first[space] for space in first)):
        raise ValueError(f"{path}, layout: expected the run's components, at least {first}, got {sizes}")
    return sizes


def read_lines(path: Path) -> tuple[dict[str, Any], Layout, list[bytes]]:
    """Return the first line of history.jsonl, its layout, and the other lines. Raises ValueError if damaged."""
    first, *rest = read_whole(path, "the history of a run").splitlines() or [b""]
    head: Any = parse(f"{path}, line 1", schema.Head, first)
    layout = Layout.from_json(json.dumps(head["layout"]))
    check_names(path, layout)
    if unknown := set(head["spaces"]) - layout.sizes.keys():
        raise ValueError(f"{path}, layout: expected the spaces {head['spaces']}, got none of {sorted(unknown)}")
    return head, layout, rest


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl, none if there is no such file.

    Raises ValueError if they are not of this form, not of the epochs from 1 up, or differ in spaces or measures.
    """
    lines = read_whole(path, "the epochs of a run").splitlines() if path.exists() else []
    rows: list[Any] = [
        parse(f"{path}, line {number}", schema.Row, line) for number, line in enumerate(lines, start=1)
    ]
    for number, row in enumerate(rows, start=1):
        if row["epoch"] != number or measure_of(rows).valid not in row:
            need = f"epoch {number} and its {measure_of(rows).valid}"
            raise ValueError(f"{path}, line {number}: expected {need}, got epoch {row['epoch']} of {sorted(row)}")
        for point in (row, *row["trace"]):
            if point["alive"].keys() != rows[0]["alive"].keys():
                need = f"expected the spaces {sorted(rows[0]['alive'])}"
                raise ValueError(f"{path}, line {number}, alive: {need}, got {sorted(point['alive'])}")
    return rows


def read_result(path: Path) -> dict[str, Any] | None:
    """Return the entries of result.json that a report needs, None if there is no such file.

    Raises ValueError if they are not of this form.
    """
    if not path.exists():
        return None
    result: Any = parse(str(path), schema.Result, read_whole(path, "the result of a run"))
    full, small = (result["components"][one] for one in ("full", "compact"))
    if full.keys() != small.keys():
        raise ValueError(f"{path}, components: expected the spaces {sorted(full)}, got {sorted(small)}")
    return result


def labelled(runs: Sequence[Run]) -> dict[str, Run]:
    """Return the runs by label: the shortest ends of their paths that differ, as they can be printed.

    Raises ValueError if a run is given twice.
    """
    paths = [run.folder.resolve().parts for run in runs]
    for length in range(1, max(map(len, paths)) + 1):
        labels = [printable("/".join(parts[-length:])) for parts in paths]
        if len(set(labels)) == len(labels):
            return dict(zip(labels, runs, strict=True))
    raise ValueError(f"{runs[0].folder}: expected different runs to compare, got one twice")


def read_weights(run: Run) -> Weights | None:
    """Return the models of a finished run, None without a model.safetensors.

    Raises ValueError if that file is damaged, or if its full model has other sizes than the run or is too large.
    """
    path = run.folder / FILE
    if run.result is None or not path.exists():
        return None
    small, about = load_model(run.folder, set())
    layout, alive = Layout.from_json(json.dumps(about["layout"])), alive_masks(str(path), about["alive"])
    if sizes := {space: len(mask) for space, mask in alive.items() if len(mask) != run.sizes.get(space)}:
        raise ValueError(f"{path}, alive: expected the run's components, {run.sizes}, got {sizes}")
    check_names(path, layout)
    layout.check(small)
    if (count := layout.resized({space: len(mask) for space, mask in alive.items()}).parameters()) > MOST:
        raise ValueError(f"{path}: expected a full model of at most {MOST:,} weights, got {count:,}")
    full, full_layout = expand(small, layout, alive)
    groups = iss_groups(full_layout, alive)
    return Weights((small, layout), (full, full_layout), groups.split(group_norms(full, groups)))


def check_names(path: Path, layout: Layout) -> None:
    """Raise ValueError for a name of an array or a space that cannot be printed."""
    if strange := [name for name in (*layout.axes, *layout.sizes) if not re.fullmatch(schema.NAME, name)]:
        raise ValueError(f"{path}, layout: expected names that can be printed, got {strange[0]!r:.60}")


def _when(folder: Path, result: Mapping[str, Any] | None) -> str:
    """Return when the run finished, or else the date of its last file."""
    if result and "finished" in result:
        return f"finished {result['finished']}"
    last = max(path.stat().st_mtime for path in folder.iterdir() if path.suffix in (".json", ".jsonl"))
    return f"last file of {time.strftime('%Y-%m-%d %H:%M', time.localtime(last))}"
