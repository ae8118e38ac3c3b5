"""The status of each run of a sweep, read from its folder, and sweep.json."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from issref.data.schema import parse
from issref.report import schema
from issref.report.run import read_result
from issref.sweep.grid import Run
from issref.sweep.process import FAILED, LOG, RESULT
from issref.sweep.task import TaskSpec
from issref.training.checkpoint import from_json, read_whole, write_json

FORMAT = "issref sweep 1"


class SweptRun(TypedDict):
    """A run in sweep.json, as far as it is read."""

    name: str
    settings: dict[str, Any]
    after: str | None


class Sweep(TypedDict):
    """sweep.json, as far as it is read."""

    command: str
    settings: dict[str, Any]
    runs: list[SweptRun]


def run_status(folder: Path, since: float, shown: str) -> dict[str, Any]:
    """Return the state of a run, why it failed, its last epoch, and of that epoch the score `shown` and the
    components alive.

    The state is finished, failed, running (the log changed after `since`, a time in seconds), stopped or waiting.
    A run with a damaged file has failed, and the reason names the file.
    """
    log, reason = folder / LOG, None
    try:
        epoch, last = _last_epoch(folder / "metrics.jsonl", shown)
        if read_result(folder / RESULT):
            state = "finished"
        elif (folder / FAILED).exists():
            state, reason = "failed", read_whole(folder / FAILED, "a reason").decode(errors="replace")
        elif log.is_file():
            state = "running" if log.stat().st_mtime >= since else "stopped"
        else:
            state = "waiting"
    except ValueError as error:
        state, reason, epoch, last = "failed", str(error), 0, {}
    known = {key: last.get(key) for key in (shown, "alive")}
    return {"state": state, "reason": reason, "epoch": epoch, **known}


def _last_epoch(path: Path, shown: str) -> tuple[int, dict[str, Any]]:
    """Return the number of epochs in metrics.jsonl, and the last row, empty if there is none."""
    lines = read_whole(path, "the epochs of a run").splitlines() if path.exists() else []
    last: Any = parse(str(path), schema.Row, lines[-1]) if lines else {}
    if lines and shown not in last:
        raise ValueError(f"{path}: expected {shown} for each epoch, got {sorted(last)}")
    return len(lines), last


def write_sweep(folder: Path, task: TaskSpec, arguments: Sequence[str], runs: Sequence[Run]) -> dict[str, Any]:
    """Write sweep.json and return it: the command, its scores, the settings that all runs share, and for each run
    its other settings, its status and its result."""
    settings = [run.settings.flat() for run in runs]
    shared = {name: value for name, value in settings[0].items() if all(one[name] == value for one in settings)}
    rows = []
    for run, own in zip(runs, settings, strict=True):
        about = {"name": run.name, "after": run.after, "arguments": run.arguments}
        about["settings"] = {name: value for name, value in own.items() if name not in shared}
        about |= run_status(folder / run.name, math.inf, task.shown)
        about["result"] = None
        if about["state"] == "finished":
            about |= _result(folder / run.name / RESULT, task.scores)
        rows.append(about)
    about = {"command": task.command.__name__, "scores": task.scores, "better": task.better}
    sweep = {"format": FORMAT, **about, "arguments": list(arguments), "settings": shared, "runs": rows}
    write_json(folder / "sweep.json", sweep)
    return sweep


def _result(path: Path, scores: Iterable[str]) -> dict[str, Any]:
    """Return the result of a finished run; or that the run failed, because the result lacks an entry."""
    result = from_json(read_whole(path, "the result of a run"))
    names = ("components", "parameters", "multiply_adds", *scores, "seconds", "corpus", "versions")
    if missing := [name for name in names if name not in result]:
        return {"state": "failed", "reason": f"{path}: expected {missing[0]}, got {sorted(result)}"}
    return {"result": {name: result[name] for name in names}}


def check_same(folder: Path, task: TaskSpec, runs: Sequence[Run]) -> None:
    """Raise ValueError unless the folder is empty, or holds a sweep of this command whose runs are among these."""
    path = folder / "sweep.json"
    if not path.is_file():
        if folder.is_dir() and {each.name for each in folder.iterdir()} - {".lock"}:
            raise ValueError(f"--out: expected an empty folder or one of this sweep, got other files in {folder}")
        return
    try:
        sweep: Any = parse(str(path), Sweep, read_whole(path, "a sweep"))
        command = sweep["command"]
        rows = sweep["runs"] if command == task.command.__name__ else []
        stored: dict[str, tuple[Any, str | None]] = {
            row["name"]: (task.settings.from_flat({**sweep["settings"], **row["settings"]}), row["after"])
            for row in rows
        }
    except ValueError as error:
        raise ValueError(f"{path}: expected a sweep written by issref, got something else ({error})") from error
    if command != task.command.__name__:
        raise ValueError(
            f"--out: expected a sweep of {command}, as in {folder}, got one of {task.command.__name__}"
        )
    given = {run.name: run for run in runs}
    for name, (settings, after) in stored.items():
        run = given.get(name)
        if run is None or run.after != after or run.settings.changed(settings) - {"threads", "data_dir"}:
            raise ValueError(f"--out: expected the runs of the sweep in {folder}, got none or another for {name}")
