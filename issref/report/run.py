"""Read the folder of a run, finished or not."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from issref.iss.compact import expand
from issref.iss.groups import group_norms, iss_groups
from issref.iss.layout import Layout, Params
from issref.report.measures import Measure, measure_of
from issref.report.style import Norms
from issref.training import checkpoint
from issref.training.checkpoint import from_json
from issref.training.options import flattened


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
    when: str

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    @property
    def measure(self) -> Measure:
        """The measure of the run's quality."""
        return measure_of(self.rows)

    @property
    def sizes(self) -> Mapping[str, int]:
        """The number of components of each space before training."""
        return self.rows[0]["trace"][0]["alive"] | (self.result["components"]["full"] if self.result else {})

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
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: expected the folder of a run, got one without config.json")
    settings = flattened(_object(folder / "config.json", (folder / "config.json").read_bytes()))
    rows, result = _rows(folder / "metrics.jsonl"), None
    if (path := folder / "result.json").is_file():
        result = _checked(path, _object(path, path.read_bytes()))
    return Run(folder, settings, rows, result, _when(folder, result))


def labelled(runs: Sequence[Run]) -> dict[str, Run]:
    """Return the runs by label: the shortest ends of their paths that differ.

    Raises ValueError if a run is given twice.
    """
    paths = [run.folder.resolve().parts for run in runs]
    for length in range(1, max(map(len, paths)) + 1):
        labels = ["/".join(parts[-length:]) for parts in paths]
        if len(set(labels)) == len(labels):
            return dict(zip(labels, runs, strict=True))
    raise ValueError(f"{runs[0].folder}: expected different runs to compare, got one twice")


def read_weights(run: Run) -> Weights | None:
    """Return the models of a run, None without a model.safetensors. Raises ValueError if that file is damaged."""
    path = run.folder / "model.safetensors"
    if not path.is_file():
        return None
    small, about = checkpoint.load(path)
    if missing := {"layout", "alive"} - about.keys():
        raise ValueError(f"{path}: expected a compact model, got one without {sorted(missing)}")
    layout = Layout.from_json(json.dumps(about["layout"]))
    alive = {space: np.array(mask, bool) for space, mask in about["alive"].items()}
    full, full_layout = expand(small, layout, alive)
    groups = iss_groups(full_layout, alive)
    return Weights((small, layout), (full, full_layout), groups.split(group_norms(full, groups)))


def _object(path: Path, text: bytes) -> dict[str, Any]:
    try:
        found = from_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: expected the JSON of a run, got malformed JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl; none if there is no such file."""
    rows = [_object(path, line) for line in path.read_bytes().splitlines()] if path.is_file() else []
    for row in rows:
        if missing := {"epoch", "alive", "seconds", "trace", measure_of(rows).valid} - row.keys():
            raise ValueError(f"{path}: expected {sorted(missing)} for each epoch, got {sorted(row)}")
        if not row["trace"] or any({"step", "alive"} - point.keys() for point in row["trace"]):
            raise ValueError(f"{path}: expected step and alive along epoch {row['epoch']}, got {row['trace'][:1]}")
    return rows


def _checked(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Return the result. Raises ValueError if an entry that a report needs is missing."""
    for key in ("components", "parameters", "seconds", "settings"):
        needed = {"full", "compact"} if key in ("components", "parameters") else set()
        if not isinstance(found := result.get(key), dict) or needed - found.keys():
            what = " of full and compact" if needed else ""
            raise ValueError(f"{path}: expected {key}{what}, got {str(found)[:60]}")
    return result


def _when(folder: Path, result: Mapping[str, Any] | None) -> str:
    """Return when the run finished, or else the date of its last file."""
    if result and "finished" in result:
        return f"finished {result['finished']}"
    last = max(path.stat().st_mtime for path in folder.iterdir() if path.suffix in (".json", ".jsonl"))
    return f"last file of {time.strftime('%Y-%m-%d %H:%M', time.localtime(last))}"
