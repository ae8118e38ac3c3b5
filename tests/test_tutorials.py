"""The tutorials run as plain Python without warnings, print what they assert, draw figures, and share one form."""

import ast
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure

from issref.report import STYLE

FOLDER = Path(__file__).parent.parent / "tutorials"
TUTORIALS = sorted(FOLDER.glob("[0-9]*_*.py"), key=lambda path: int(path.stem.partition("_")[0]))
FIGURES = {
    "1_one_unit": 3,
    "2_the_penalty": 4,
    "3_backward_by_hand": 4,
    "4_proximal_steps": 2,
    "5_newton_and_warm_starts": 3,
    "6_compaction": 3,
    "7_highways": 2,
    "8_attention": 3,
    "9_choosing_a_strength": 1,
    "10_porting": 1,
}
NEEDS = {"10_porting": "torch"}
PNG = b"\x89PNG\r\n\x1a\n"

each_tutorial = pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)


def cells(tutorial: Path) -> list[tuple[str, str]]:
    """Return the cells of a percent-format script as (kind, text), the kind being "markdown" or "code"."""
    parts = re.split(r"^# %%(.*)\n", tutorial.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert parts[0] == "", "a tutorial must begin with a cell"
    kinds = ["markdown" if "[markdown]" in head else "code" for head in parts[1::2]]
    return list(zip(kinds, parts[2::2], strict=True))


def cell_texts(tutorial: Path) -> list[str]:
    """Return the cells, each with the rest of its first line."""
    return tutorial.read_text(encoding="utf-8").split("\n# %%")[1:]


def asserted(tutorial: Path) -> set[str]:
    """Return the strings and integers that `assert ... == ...` compares with, alone or in a list."""
    found = set()
    for statement in ast.walk(ast.parse(tutorial.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Assert) and isinstance(statement.test, ast.Compare):
            for operator, value in zip(statement.test.ops, statement.test.comparators, strict=True):
                if isinstance(operator, ast.Eq):
                    alone = [value] if isinstance(value, ast.Constant) else getattr(value, "elts", [])
                    found.update(one.value for one in alone if isinstance(one, ast.Constant))
    return {str(value) for value in found if not isinstance(value, bool)} - {"0", "1"}


@each_tutorial
def test_runs_and_prints_what_it_asserts(tutorial, tmp_path):
    if needed := NEEDS.get(tutorial.stem):
        pytest.importorskip(needed)
    environment = {**os.environ, "MPLBACKEND": "Agg", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(tutorial)]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""

    expected = asserted(tutorial)
    assert expected
    for text in expected:
        assert re.search(rf"(?<![\d.]){re.escape(text)}(?!\d)", run.stdout), f"{text} is asserted, not printed"

    figures = sorted((tmp_path / "figures").iterdir())
    assert len(figures) == FIGURES.get(tutorial.stem, len(figures)) >= 1
    for figure in figures:
        assert figure.read_bytes().startswith(PNG)
        assert figure.stat().st_size > 10_000, f"{figure.name} is nearly empty"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures"]


@each_tutorial
def test_is_prose_and_code(tutorial):
    kinds = cells(tutorial)
    prose = [text for kind, text in kinds if kind == "markdown"]
    assert kinds[0][0] == "markdown"
    assert len(prose) >= 10
    assert all(line.startswith("#") for text in prose for line in text.strip().splitlines())
    assert any("Exercise" in text for text in prose)
    assert sum(len(text.split()) for text in prose) > 800
    assert max(map(len, tutorial.read_text(encoding="utf-8").splitlines())) <= 100


@each_tutorial
def test_plots_are_folded_away(tutorial):
    """A cell that draws prints and asserts nothing, since the site folds its code."""
    drawing = [text for text in cell_texts(tutorial) if "savefig(" in text]
    assert drawing
    for text in drawing:
        assert text.startswith(' tags=["hide-input"]\n')
        assert "print(" not in text
        assert "assert " not in text


def test_figures_draw_formulas():
    """Under STYLE the $ of a text begin and end a formula, and are not drawn."""
    with rc_context(STYLE):
        texts = [Figure().text(0, 0, "$s$"), Figure().text(0, 0, "$s$", parse_math=False)]
    formula, characters = (text.get_window_extent().width for text in texts)
    assert formula < characters / 2


@each_tutorial
def test_decimals_in_the_prose_are_computed(tutorial):
    """Every number with three or more decimals in the prose must occur in the code, too."""
    code = "".join(text for kind, text in cells(tutorial) if kind == "code")
    prose = "".join(text for kind, text in cells(tutorial) if kind == "markdown")
    prose = re.sub(r"arXiv[\s#]+1709.05027", "", prose)
    for number in re.findall(r"(?<![\d.])\d+\.\d{3,}(?![\d.])", prose):
        assert number in code or f"{float(number):g}" in code, f"{number} is only in the prose"


@each_tutorial
def test_has_the_form_of_all(tutorial):
    """Check the number and title, the goals, the prerequisites, the time, the answer and the next steps."""
    prose = [text for kind, text in cells(tutorial) if kind == "markdown"]
    head, end = prose[0], prose[-1]
    number = tutorial.stem.partition("_")[0]
    assert head.startswith(f"# # {number}. "), "the first cell must begin with number and title"
    for part in ("**You will learn**", "**You need**", "minutes to read"):
        assert part in " ".join(head.replace("\n# ", " ").split())
    assert any("### Answer" in text for text in prose)
    assert "## Where to go next" in end


def test_each_leads_to_the_next():
    assert [tutorial.stem for tutorial in TUTORIALS] == list(FIGURES)
    for tutorial, following in pairwise(TUTORIALS):
        assert f"({following.name})" in cells(tutorial)[-1][1], f"{tutorial.name} does not lead on"


@each_tutorial
def test_linked_and_named_files_exist(tutorial):
    """Check links to other tutorials, and files of issref in backticks."""
    text = "".join(text for kind, text in cells(tutorial) if kind == "markdown")
    linked = re.findall(r"\]\(([^)]+)\)", text)
    for name in linked:
        assert (tutorial.parent / name).exists(), f"{name}: linked, but missing"
    for number, name in re.findall(r"\[[Tt]utorial (\d+)\]\(([^)]+)\)", text):
        assert name.startswith(f"{number}_"), f"[tutorial {number}] links to {name}"
    for name in re.findall(r"`(issref/[^`]+\.py)`", text):
        assert (tutorial.parent.parent / name).exists(), f"{name}: named, but missing"
