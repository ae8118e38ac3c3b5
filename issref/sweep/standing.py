"""Where the runs of a sweep stand, as their folders say, and sweep.json."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from issref.sweep.grid import Run
from issref.sweep.process import FAILED, LOG, RESULT
from issref.sweep.trained import Trained
from issref.training.checkpoint import from_json, write_json

FORMAT = "issref sweep 1"


def standing(place: Path, since: float, shown: str) -> dict[str, Any]:
    """A run's state and last epoch, with the score that is `shown`; it is running if its log is of after `since`,
    else it waits or was stopped."""
    log, metrics = place / LOG, place / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.is_file() else []
    last = from_json(lines[-1]) if lines else {}
    if (place / RESULT).is_file():
        state = "finished"
    elif (place / FAILED).is_file():
        state = "failed"
    elif log.is_file():
        state = "running" if log.stat().st_mtime >= since else "stopped"
    else:
        state = "waiting"
    sentence = (place / FAILED).read_text() if state == "failed" else None
    known = {key: last.get(key) for key in (shown, "alive")}
    return {"state": state, "sentence": sentence, "epoch": len(lines), **known}


def write_sweep(folder: Path, trained: Trained, arguments: Sequence[str], runs: Sequence[Run]) -> dict[str, Any]:
    """Write sweep.json and return it: the command and its scores, the settings that all runs share, and of each
    run the others, its state, and the figures of its result."""
    settings = [run.settings.flat() for run in runs]
    shared = {name: value for name, value in settings[0].items() if all(one[name] == value for one in settings)}
    rows = []
    for run, own in zip(runs, settings, strict=True):
        about = {"name": run.name, "after": run.after, "arguments": run.arguments}
        about["settings"] = {name: value for name, value in own.items() if name not in shared}
        about |= standing(folder / run.name, math.inf, trained.shown)
        rows.append({**about, "result": _figures(folder / run.name, trained.scores)})
    told = {"command": trained.command.__name__, "scores": trained.scores, "better": trained.better}
    sweep = {"format": FORMAT, **told, "arguments": list(arguments), "settings": shared, "runs": rows}
    write_json(folder / "sweep.json", sweep)
    return sweep


def _figures(place: Path, scores: Iterable[str]) -> dict[str, Any] | None:
    if not (place / RESULT).is_file():
        return None
    result = from_json((place / RESULT).read_text())
    names = ("components", "parameters", "multiply_adds", *scores, "seconds", "corpus", "versions")
    return {name: result[name] for name in names}


def check_same(folder: Path, trained: Trained, runs: Sequence[Run]) -> None:
    """Raise ValueError unless the sweep in a folder, if there is one, has these runs of this command, or some."""
    path = folder / "sweep.json"
    if not path.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"--out: needs an empty folder or that of this sweep, found another in {folder}")
        return
    try:
        sweep = from_json(path.read_bytes())
        command = sweep["command"]
        rows = sweep["runs"] if command == trained.command.__name__ else []
        there: dict[str, tuple[Any, str | None]] = {
            row["name"]: (trained.settings.from_flat({**sweep["settings"], **row["settings"]}), row["after"])
            for row in rows
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: needs a sweep that issref wrote, found something else ({error!r})") from error
    if command != trained.command.__name__:
        raise ValueError(f"--out: needs the runs of the sweep in {folder}, which are of {command}, got others")
    here = {run.name: run for run in runs}
    for name, (settings, after) in there.items():
        run = here.get(name)
        if run is None or run.after != after or run.settings.changed(settings) - {"threads", "data_dir"}:
            raise ValueError(f"--out: needs the runs of the sweep in {folder}, got none or another for {name}")
