"""Who may import whom, as data, and the other promises of the house."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "issref").rglob("*.py"))
# The rooms of the house, and the rooms that each may import. A room may import itself.
EVERYTHING = ("kernels", "data", "iss", "ops", "models", "training", "ptb", "squad", "report", "sweep", "verify")
TABLE = {
    "": ("openblas", "iss"),  # issref/__init__.py
    "openblas": (),
    "kernels": (),
    "data": (),
    "iss": ("kernels",),
    "ops": ("kernels",),
    "models": ("ops", "iss.layout"),
    "training": ("kernels", "iss", "models.protocol"),
    "ptb": ("kernels", "iss", "ops", "models", "data", "training"),
    "squad": ("kernels", "iss", "ops", "models", "data", "training"),
    "report": ("data.schema", "iss", "ops", "models", "training", "ptb.settings", "squad.settings"),
    "sweep": (*(room for room in EVERYTHING if room != "verify"), "train_ptb", "train_squad"),
    "verify": ("kernels", "data", "iss", "ops", "models", "training"),
    "train_ptb": tuple(room for room in EVERYTHING if room != "sweep"),
    "train_squad": tuple(room for room in EVERYTHING if room != "sweep"),
    "crosscheck": tuple(room for room in EVERYTHING if room != "sweep"),
}
# What the inner rooms may import beside issref and the standard library.
FOREIGN = {
    "": {"numpy"},
    "openblas": set(),
    "kernels": {"numpy", "numba", "llvmlite", "threadpoolctl"},
    "iss": {"numpy", "jaxtyping"},
    "ops": {"numpy", "jaxtyping"},
    "models": {"numpy", "jaxtyping"},
}
JITTED = {f"issref.kernels.jitted.{name}" for name in ("compiled", "vector_math", "microkernel")}
ONLY_THERE = {"numba": JITTED, "llvmlite": JITTED}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def imports(path):
    """Every module a file imports, anywhere in it; `from a import b` is a.b if that is a module, else a."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: absolute imports only"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            named = (argument.value for argument in node.args if isinstance(argument, ast.Constant))
            yield from named  # what is no constant is the user's own, named on the command line


def inside(module, packages):
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def room_of(module):
    return module.removeprefix("issref").removeprefix(".").split(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_what_it_may(module):
    room = room_of(module)
    assert room in TABLE, f"{module} is in no room of the house"
    allowed = [f"issref.{one}" for one in (*TABLE[room], room)]
    for imported in imports(MODULES[module]):
        top = imported.split(".")[0]
        assert module in ONLY_THERE.get(top, {module}), f"{module} imports {imported}"
        if top == "issref":
            version = imported == "issref"  # from issref import __version__
            assert version or inside(imported, allowed), f"{module} imports {imported}"
        elif room in FOREIGN:
            assert top in FOREIGN[room] | sys.stdlib_module_names, f"{module} imports {imported}"


def test_only_commands_and_rooms_are_at_the_top():
    files = {path.name for path in (ROOT / "issref").glob("*.py")}
    assert files == {"__init__.py", "openblas.py", "train_ptb.py", "train_squad.py", "crosscheck.py"}
    rooms = {path.name for path in (ROOT / "issref").iterdir() if path.is_dir()} - {"__pycache__"}
    assert rooms == set(EVERYTHING)


def depth(node):
    """How many loops, branches, `with` and `try` are nested below a node."""
    nests = isinstance(node, ast.For | ast.While | ast.With | ast.If | ast.Try)
    return nests + max((depth(child) for child in ast.iter_child_nodes(node)), default=0)


@pytest.mark.parametrize("command", ["train_ptb", "train_squad"])
def test_the_training_loop_is_short_and_flat(command):
    source = (ROOT / "issref" / f"{command}.py").read_text()
    train = next(node for node in ast.parse(source).body if getattr(node, "name", "") == "train")
    lines = source.splitlines()[train.lineno - 1 : train.end_lineno]
    assert sum(bool(line.strip()) for line in lines) <= 35
    assert depth(train) <= 3
    called = {ast.unparse(node.func).split(".")[-1] for node in ast.walk(train) if isinstance(node, ast.Call)}
    assert {"loss", "backward", "update", "prune"} <= called


def test_an_update_is_a_function_of_arrays():
    source = (ROOT / "issref" / "training" / "updates.py").read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            assert len(node.args.args) + len(node.args.kwonlyargs) <= 5, node.name
    assert "settings" not in source.lower()


def test_the_commands_repeat_little():
    """Imports and blank lines not counted."""
    seen = []
    for command in ("train_ptb", "train_squad"):
        source = (ROOT / "issref" / f"{command}.py").read_text()
        imported = {
            number
            for node in ast.parse(source).body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for number in range(node.lineno, node.end_lineno + 1)
        }
        lines = enumerate(source.splitlines(), start=1)
        seen.append(Counter(line.strip() for number, line in lines if line.strip() and number not in imported))
    assert (seen[0] & seen[1]).total() <= 25, sorted((seen[0] & seen[1]).elements())


@pytest.mark.parametrize("part", ["issref.ops", "issref.kernels", "issref.iss"])
def test_no_randomness_and_no_files(part):
    for module, path in MODULES.items():
        if inside(module, [part]):
            for node in ast.walk(ast.parse(path.read_text())):
                words = {getattr(node, "attr", None), getattr(node, "id", None)}
                assert not words & {"random", "open", "Path", "print"}, f"{module}, line {node.lineno}"


HEAVY = {
    "jinja2",
    "tyro",
    "tqdm",
    "pooch",
    "safetensors",
    "matplotlib",
    "numba",
    "joblib",
    "scipy",
    "threadpoolctl",
}


def test_import_issref_loads_the_core_only():
    code = f"import sys, issref; print(*sorted({HEAVY} & set(sys.modules)))"
    loaded = subprocess.run((sys.executable, "-c", code), cwd=ROOT, check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == []


@pytest.mark.parametrize("path", [path.relative_to(ROOT).as_posix() for path in SOURCES])
def test_a_source_file_says_what_it_is_and_stays_short(path):
    text = (ROOT / path).read_text()
    assert ast.get_docstring(ast.parse(text)), f"{path} needs a docstring"
    assert len(text.splitlines()) <= 250


COMES_WITH = {"llvmlite": "numba", "distributed": "dask"}  # what another distribution brings


def test_everything_imported_is_declared():
    """A bare machine has what pyproject.toml names, and nothing else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    declared = {re.split(r"[\[<>=!~ ]", one)[0].lower() for one in wanted}
    found = {name.split(".")[0] for path in SOURCES for name in imports(path)}
    foreign = {COMES_WITH.get(name, name) for name in found - sys.stdlib_module_names - {"issref"}}
    assert foreign <= declared
