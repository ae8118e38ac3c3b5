"""What the README prints runs as printed."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import tyro

from issref import train_ptb, train_squad
from issref.models import ptb_lstm, ptb_rhn
from issref.ptb.settings import PRESETS
from issref.report.__main__ import Command as Report
from issref.sweep import command as sweep
from issref.training.checkpoint import write_json

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_library_snippet_runs_and_some_components_die(tmp_path):
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", snippet], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    dead = re.search(r"\[([ A-Za-z]+)\] \S+", done.stdout)
    assert dead is not None
    assert "True" in dead[1]
    assert "False" in dead[1]


def test_the_layout_tables_are_the_models():
    for layout in (ptb_lstm.layout(ptb_lstm.Config()), ptb_rhn.layout(ptb_rhn.Config(depth=2))):
        for array in layout.axes:
            cells = layout.spell(array).split(", ")
            row = f"| `{array}` | {' | '.join(cells)} |"
            assert row in README.replace(" | |\n", " |\n"), row


def test_every_command_in_the_readme_is_understood(tmp_path, monkeypatch):
    """Those that go on with a run find one there, with the settings of a preset."""
    understand = {
        "train_ptb": train_ptb.parse,
        "train_squad": train_squad.parse,
        "sweep": sweep.parse,
        "report": lambda words: tyro.cli(Report, args=words),
    }
    line = rf"^(?:.*&& )?python -m issref\.({'|'.join(understand)}) (.*?)(?:\s+#.*)?$"
    commands = re.findall(line, README, re.MULTILINE)
    assert {name for name, _ in commands} == understand.keys()
    monkeypatch.chdir(tmp_path)
    corpus = SimpleNamespace(words=("word",) * 9, train=np.zeros(1000))  # enough to say what strength is useful
    monkeypatch.setattr(train_ptb, "load_corpus", lambda settings: corpus)
    presets = {"train_ptb": PRESETS, "train_squad": train_squad.PRESETS}
    for name, words in commands:
        for run in re.findall(r"--(?:resume|eval|predict) (\S+)", words):
            Path(run).mkdir(parents=True, exist_ok=True)
            write_json(Path(run) / "config.json", presets[name]["small"].to_dict())
        understand[name](shlex.split(words))


def test_the_measured_numbers_are_those_of_the_result_files():
    sys.path.insert(0, str(ROOT))
    from benchmarks.readme import written

    assert written(README) == README
