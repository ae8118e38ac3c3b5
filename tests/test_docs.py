"""The documentation names what exists: commands, files, modules. That it builds, .ci/run says."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
OWN = [page for page in PAGES if "tutorials" not in page.parts]
each_page = pytest.mark.parametrize("page", OWN, ids=lambda page: page.relative_to(ROOT).as_posix())


def commands(text):
    """What `python -m` is said to run, with the rest of the line or of the code span."""
    return re.findall(r"python -m ([\w.]+)([^`\n#]*)", text)


@each_page
def test_every_command_exists_with_its_flags(page):
    for module, rest in commands(page.read_text(encoding="utf-8")):
        assert module.split(".")[0] in {"issref", "benchmarks", "sphinx"}, f"{page.name} runs {module}"
        if module.startswith("issref"):
            assert find_spec(module), f"{page.name}: python -m {module}"
            source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "issref").rglob("*.py"))
            for flag in re.findall(r"--([a-z][\w-]*)", rest):
                assert flag == "help" or re.search(rf"\b{flag.replace('-', '_')}\b", source), f"--{flag}"


@each_page
def test_every_file_of_the_project_exists(page):
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:issref|tests|docs|benchmarks|tutorials|\.ci)/[\w./-]*)`", text):
        assert "name." in path or (ROOT / path).exists(), f"{page.name} names {path}"
    for path in re.findall(r"[`\s]tests/\w+\.py", text):
        assert (ROOT / path[1:]).exists(), f"{page.name} names {path[1:]}"


@each_page
def test_every_link_inside_the_project_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
        source = ROOT / target if target.startswith("tutorials/") else page.parent / target
        assert source.exists(), f"{page.name} links to {target}"


def test_every_module_is_in_the_reference():
    """But for compiled twins, which reference describes, and for what only serves a command."""
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    told = set(re.findall(r"automodule:: (\S+)", pages))
    for path in sorted((ROOT / "issref").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        command = f"python -m {module}" in path.read_text(encoding="utf-8")
        part = re.match(r"issref\.(iss|kernels(?!\.jitted)|ops|models|data|training|ptb|squad|verify)\.", module)
        if command or (part and path.name != "__init__.py"):
            assert module in told, f"docs/api needs {module}"


def test_the_reference_begins_with_the_public_names():
    from issref import __all__ as names

    page = (ROOT / "docs" / "api" / "index.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^   ~issref\S*\.(\w+)$", page, re.MULTILINE)) == sorted(names)


def test_the_paper_is_cited_and_the_versions_agree():
    from issref import __version__

    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert "Learning Intrinsic Sparse Structures within Long Short-Term Memory" in citation
    assert "1709.05027" in citation
    assert f"version: {__version__}\n" in citation
    changes = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert changes[0] == "Unreleased" or changes[0] == __version__
