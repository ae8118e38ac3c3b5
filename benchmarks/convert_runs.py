"""Convert run folders with flat settings to nested settings: `python -m benchmarks.convert_runs FOLDER ...`.

config.json and the settings in result.json become nested, --penalty-rest becomes --final-penalty-scale, and a
result without `finished` gets the date of its file. metrics.jsonl and model.safetensors stay unchanged.
Checkpoints are not converted: such a run can only be resumed by the version that started it.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from issref.ptb.settings import Settings
from issref.squad.settings import SquadSettings
from issref.training.checkpoint import write_json
from issref.training.options import flag

RENAMED = {"penalty_rest": "final_penalty_scale"}


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Return the nested settings of an older config.json, with defaults for settings it did not have."""
    kind = Settings if "model" in flat or "hidden_sizes" in flat else SquadSettings
    return kind.from_flat({RENAMED.get(name, name): value for name, value in flat.items()}).to_dict()


def convert(folder: Path) -> None:
    """Convert the files of a run's folder in place; converted folders stay unchanged."""
    path = folder / "config.json"
    if "network" not in (settings := json.loads(path.read_text())):
        write_json(path, nested(settings))
    if (path := folder / "result.json").exists():
        result = json.loads(path.read_text())
        if "network" not in result["settings"]:
            finished = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
            write_json(path, {"finished": finished, **result, "settings": nested(result["settings"])})
    if (path := folder / "command.txt").exists():
        text = path.read_text()
        for old, new in RENAMED.items():
            text = text.replace(flag(old), flag(new))
        path.write_text(text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        convert(Path(name))
