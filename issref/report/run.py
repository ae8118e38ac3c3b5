"""Reading the folder of a run, finished or not."""

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
    """The compact model of a run, the full one with zeros where components were removed, the norms of groups."""

    small: tuple[Params, Layout]
    full: tuple[Params, Layout]
    norms: Norms


@dataclass(frozen=True)
class Run:
    """What a run's folder holds: config.json, and as far as the run has come, the rest."""

    folder: Path
    settings: Mapping[str, Any]
    rows: list[dict[str, Any]]
    result: Mapping[str, Any] | None
    when: str

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def measure(self) -> Measure:
        return measure_of(self.rows)

    @property
    def sizes(self) -> Mapping[str, int]:
        """How many components each space began with."""
        return self.rows[0]["trace"][0]["alive"] | (self.result["components"]["full"] if self.result else {})

    @property
    def status(self) -> str:
        """A sentence if the run is not finished, or went on after its result; else nothing."""
        unit = "epochs" if "epochs" in self.settings else "steps"
        done, wanted = len(self.rows), self.settings.get(unit)
        if self.result is None:
            return f"This run is not finished: {done} epochs are done, {wanted} {unit} are wanted."
        ended = flattened(self.result["settings"]).get(unit)
        return "" if ended == wanted else f"The result is that of {ended} {unit}; the run went on, to {wanted}."


def read_run(folder: Path) -> Run:
    """The run in a folder; ValueError in a sentence if there is none, or if a file of it is damaged."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: needs the folder of a run, found no config.json in it")
    settings = flattened(_object(folder / "config.json", (folder / "config.json").read_bytes()))
    rows, result = _rows(folder / "metrics.jsonl"), None
    if (path := folder / "result.json").is_file():
        result = _checked(path, _object(path, path.read_bytes()))
    return Run(folder, settings, rows, result, _when(folder, result))


def labelled(runs: Sequence[Run]) -> dict[str, Run]:
    """Runs by as much of the end of their paths as tells them apart."""
    paths = [run.folder.resolve().parts for run in runs]
    for length in range(1, max(map(len, paths)) + 1):
        labels = ["/".join(parts[-length:]) for parts in paths]
        if len(set(labels)) == len(labels):
            return dict(zip(labels, runs, strict=True))
    raise ValueError(f"{runs[0].folder}: needs each run once to compare them, found one twice")


def read_weights(run: Run) -> Weights | None:
    """The models of a run; None if it has no model.safetensors; ValueError in a sentence if that is damaged."""
    path = run.folder / "model.safetensors"
    if not path.is_file():
        return None
    small, about = checkpoint.load(path)
    if missing := {"layout", "alive"} - about.keys():
        raise ValueError(f"{path}: needs a compact model, found no {sorted(missing)}")
    layout = Layout.from_json(json.dumps(about["layout"]))
    alive = {space: np.array(kept, bool) for space, kept in about["alive"].items()}
    full, full_layout = expand(small, layout, alive)
    groups = iss_groups(full_layout, alive)
    return Weights((small, layout), (full, full_layout), groups.split(group_norms(full, groups)))


def _object(path: Path, text: bytes) -> dict[str, Any]:
    try:
        found = from_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: needs the JSON of a run, found some that cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: needs a JSON object, found {type(found).__name__}")
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    """The epochs of metrics.jsonl; none if there is no such file."""
    rows = [_object(path, line) for line in path.read_bytes().splitlines()] if path.is_file() else []
    for row in rows:
        if missing := {"epoch", "alive", "seconds", "trace", measure_of(rows).valid} - row.keys():
            raise ValueError(f"{path}: needs {sorted(missing)} of each epoch, found {sorted(row)}")
        if not row["trace"] or any({"step", "alive"} - point.keys() for point in row["trace"]):
            raise ValueError(f"{path}: needs step and alive along epoch {row['epoch']}, found {row['trace'][:1]}")
    return rows


def _checked(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """A result with what a report cannot do without."""
    for key in ("components", "parameters", "seconds", "settings"):
        needed = {"full", "compact"} if key in ("components", "parameters") else set()
        if not isinstance(found := result.get(key), dict) or needed - found.keys():
            what = " of full and compact" if needed else ""
            raise ValueError(f"{path}: needs {key}{what}, found {str(found)[:60]}")
    return result


def _when(folder: Path, result: Mapping[str, Any] | None) -> str:
    """When the run ended, as it wrote down, or as its last file is dated."""
    if result and "finished" in result:
        return f"finished {result['finished']}"
    last = max(path.stat().st_mtime for path in folder.iterdir() if path.suffix in (".json", ".jsonl"))
    return f"files dated {time.strftime('%Y-%m-%d %H:%M', time.localtime(last))}"
