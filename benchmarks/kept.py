"""The runs stored in `benchmarks/results`: one folder each, with result, metrics, figures and command."""

import json
from pathlib import Path
from typing import Any

from issref.training.options import flattened

RESULTS = Path(__file__).parent / "results"


def load(name: str) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    """Return a run's result, with flat settings, its rows of metrics and its command."""
    folder = RESULTS / name
    result = json.loads((folder / "result.json").read_text())
    result["settings"] = flattened(result["settings"])
    return result, rows(folder), command(folder)


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl of a run."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def command(folder: Path) -> str:
    """Return the command of a run."""
    return (folder / "command.txt").read_text().strip()


def units(result: dict[str, Any], one: str) -> str:
    """Return the units of each layer of the full or the compact model, as in "200 + 200"."""
    return " + ".join(str(count) for count in result["components"][one].values())
