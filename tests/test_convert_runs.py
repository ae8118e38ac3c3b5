"""Older runs, whose settings were flat, evaluate to the same perplexity once they are converted."""

import json
import random
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.convert_runs import RENAMED, convert
from benchmarks.kept import RESULTS
from issref import report
from issref import train_ptb as command
from issref.ptb.evaluation import evaluate
from issref.ptb.settings import Settings
from issref.squad.settings import SquadSettings
from issref.training.options import flattened


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny run with a penalty that becomes mild, on a text of 20 words."""
    text, rng = tmp_path_factory.mktemp("text"), random.Random(0)
    for split, lines in (("train", 60), ("valid", 20), ("test", 20)):
        words = [" ".join(f"w{rng.randrange(20)}" for _ in range(9)) for _ in range(lines)]
        (text / f"{split}.txt").write_text("\n".join(words) + "\n")
    flags = "--hidden-sizes 6 5 --batch 4 --steps 5 --epochs 2 --penalty-epochs 1 --final-penalty-scale 0.4"
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw_run", lambda *arguments: [])
        assert command.main([*flags.split(), "--corpus", str(text), "--out", str(folder), "--threads", "1"]) == 0
    return folder


def flatten(settings):
    """The settings as config.json had them before."""
    old = {new: name for name, new in RENAMED.items()}
    return {old.get(name, name): value for name, value in flattened(settings).items()}


def test_a_converted_run_evaluates_to_the_same_perplexity(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    config, result = (json.loads((folder / name).read_text()) for name in ("config.json", "result.json"))
    (folder / "config.json").write_text(json.dumps(flatten(config)))
    del result["finished"]
    (folder / "result.json").write_text(json.dumps({**result, "settings": flatten(result["settings"])}))
    with pytest.raises(ValueError, match=r"expected settings of train_ptb in this version"):
        Settings.read(folder / "config.json")
    convert(folder)
    settings = Settings.read(folder / "config.json")
    assert settings == Settings.read(finished / "config.json")
    assert evaluate(folder, settings, "test") == evaluate(finished, settings, "test")
    after = json.loads((folder / "result.json").read_text())
    assert after["finished"]
    assert after["settings"] == config
    convert(folder)  # a second time changes nothing
    assert json.loads((folder / "result.json").read_text()) == after


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("config.json")), ids=lambda path: path.parent.name)
def test_every_kept_run_has_the_settings_of_this_version(path):
    kind = SquadSettings if path.parent.name.startswith("squad") else Settings
    settings = kind.read(path)
    if (result := path.parent / "result.json").exists():  # else it has not ended
        assert kind.from_dict(json.loads(result.read_text())["settings"]) == settings
