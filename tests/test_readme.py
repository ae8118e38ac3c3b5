"""The README and the pages generated with it: snippet, commands, layouts and numbers are true."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tyro

from issref import crosscheck, train_ptb, train_squad
from issref.models import bidaf, ptb_lstm, ptb_rhn
from issref.ptb.settings import PRESETS
from issref.report.__main__ import Command as Report
from issref.sweep import command as sweep
from issref.training.checkpoint import write_json

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import readme  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
LAYOUTS = (ROOT / "docs" / "layouts.md").read_text(encoding="utf-8")
PARSERS = {
    "train_ptb": train_ptb.parse,
    "train_squad": train_squad.parse,
    "sweep": sweep.parse,
    "report": lambda words: tyro.cli(Report, args=words),
    "crosscheck": lambda words: tyro.cli(crosscheck.Command, args=words),
}
LSTM = ptb_lstm.layout(ptb_lstm.Config())
RHN = ptb_rhn.layout(ptb_rhn.Config(depth=2))
BIDAF = bidaf.layout(bidaf.Config())


def test_the_readme_has_at_most_130_lines_of_at_most_125_characters():
    lines = README.splitlines()
    assert len(lines) <= 130
    assert max(map(len, lines)) <= 125


def test_the_library_snippet_runs_and_some_components_die(tmp_path):
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", snippet], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"^print.*?\)  # (.*)$", snippet, re.MULTILINE)
    assert done.stdout.splitlines() == shown
    assert len(shown) == 2
    assert {"True", "False"} <= set(re.findall(r"\w+", shown[0]))


@pytest.mark.parametrize(
    ("page", "layout"),
    [(README, LSTM), (LAYOUTS, LSTM), (LAYOUTS, RHN), (LAYOUTS, BIDAF)],
    ids=["README, LSTM", "LSTM", "RHN", "BiDAF"],
)
def test_the_layout_tables_are_the_layouts_of_the_models(page, layout):
    h, g1 = "h.fw + h.bw", "g1.fw + g1.bw"
    short = {" + ".join(4 * [h]): "p0", " + ".join(3 * [h]): f"3 ({h})", g1: "g1"}  # as explained on the page
    for array in layout.axes:
        if re.match(r"(h|g\d)\.bw/", array):
            continue  # "the arrays of the backward LSTMs have the same form"
        spelled = layout.spell(array)
        for long, name in short.items():
            spelled = spelled.replace(long, name)
        row = f"| `{array}` | {' | '.join(spelled.split(', '))} |"
        assert row in page.replace(" | |\n", " |\n"), row


@pytest.mark.parametrize("page", [README, COMMANDS], ids=["README", "commands"])
def test_every_command_is_understood(page, tmp_path, monkeypatch):
    """Commands that continue or evaluate a run get a folder with the settings of a preset."""
    line = rf"^(?:.*&& )?python -m issref\.({'|'.join(PARSERS)}) (.*?)(?:\s+#.*)?$"
    commands = re.findall(line, page.replace("\\\n", ""), re.MULTILINE)
    assert {name for name, _ in commands} >= PARSERS.keys() - {"crosscheck"}
    monkeypatch.chdir(tmp_path)
    corpus = SimpleNamespace(words=("word",) * 9, train=np.zeros(1000))  # enough for the useful strengths
    monkeypatch.setattr(train_ptb, "load_corpus", lambda settings: corpus)
    presets = {"train_ptb": PRESETS, "train_squad": train_squad.PRESETS}
    for name, words in commands:
        for run in re.findall(r"--(?:resume|eval|predict) (\S+)", words):
            Path(run).mkdir(parents=True, exist_ok=True)
            write_json(Path(run) / "config.json", presets[name]["small"].to_dict())
        PARSERS[name](shlex.split(words))


@pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: page.name)
def test_the_generated_blocks_are_up_to_date(page):
    text = page.read_text(encoding="utf-8")
    assert readme.written(text) == text
