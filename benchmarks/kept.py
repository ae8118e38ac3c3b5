"""Runs that are kept in `benchmarks/results`, each in a folder: what it wrote, and the command that made it."""

import json
from pathlib import Path
from typing import Any

from issref.training.options import flattened

RESULTS = Path(__file__).parent / "results"


def load(name: str) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    """Return a run's result, its settings flat, its rows of metrics and its command."""
    folder = RESULTS / name
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((folder / "result.json").read_text())
    result["settings"] = flattened(result["settings"])
    return result, rows, (folder / "command.txt").read_text().strip()


def units(result: dict[str, Any], one: str) -> str:
    """Units of each layer, full or compact."""
    return " + ".join(str(count) for count in result["components"][one].values())
