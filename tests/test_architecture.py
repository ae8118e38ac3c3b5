"""Who may import whom, as data, and the other promises of the house."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "issref").rglob("*.py"))
ANY = None

# The part of the house: what it may import of issref, and of others beside the standard library. A file at the
# top that is not named here is a command or serves one: it may import everything, and no part may import it.
TABLE = {
    "issref": (["issref.openblas", "issref.iss"], []),
    "issref.openblas": ([], []),
    "issref.iss": (["issref.iss", "issref.kernels"], ["numpy", "jaxtyping"]),
    "issref.kernels": (["issref.kernels"], ["numpy", "threadpoolctl"]),
    "issref.kernels.jitted": (["issref.kernels"], ["numpy", "numba"]),
    "issref.kernels.jitted.microkernel": ([], ["numba", "llvmlite"]),
    "issref.kernels.jitted.vector_math": ([], ["numpy", "numba", "llvmlite"]),
    "issref.ops": (["issref.ops", "issref.kernels"], ["numpy", "jaxtyping"]),
    "issref.models": (["issref.models", "issref.ops", "issref.iss.layout"], ["numpy", "jaxtyping"]),
    "issref.data": (["issref.data"], ANY),
    "issref.training": (["issref.training"], ANY),
    "issref.training.updates": (["issref.iss", "issref.training"], ["numpy"]),
}
TABLE["issref.verify"] = (["issref.verify", *(part for part in TABLE if part != "issref")], ANY)
TABLE["issref.sweep"] = (["issref"], ANY)  # a command in several files
TABLE["issref.report"] = ([*(f"issref.{part}" for part in ("report", "iss", "ops", "training", "show"))], ANY)
ONLY_THERE = {
    "numba": {
        "issref.kernels.jitted.compiled",
        "issref.kernels.jitted.vector_math",
        "issref.kernels.jitted.microkernel",
    },
    "llvmlite": {"issref.kernels.jitted.vector_math", "issref.kernels.jitted.microkernel"},
}


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


def part_of(module):
    """The longest entry of the table that holds a module; None for a file at the top."""
    if module == "issref":
        return module
    return max((part for part in TABLE if part != "issref" and inside(module, [part])), key=len, default=None)


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_what_its_part_of_the_house_may(module):
    part = part_of(module)
    assert part or MODULES[module].parent.name == "issref", f"{module} is in no part of the house"
    for imported in imports(MODULES[module]):
        top = imported.split(".")[0]
        assert module in ONLY_THERE.get(top, {module}), f"{module} imports {imported}"
        ours, others = TABLE.get(part, (["issref"], ANY))
        if top == "issref":
            assert inside(imported, ours), f"{module} imports {imported}"
        else:
            assert others is ANY or top in {*others, *sys.stdlib_module_names}, f"{module} imports {imported}"


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
