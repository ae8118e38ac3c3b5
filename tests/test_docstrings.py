"""Every public name says what it is, with shapes, units, errors and source, and its examples run."""

import ast
import doctest
import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import issref

ROOT = Path(__file__).parents[1]

# What `import issref` promises: a name that comes or goes does so here too.
NAMES = {
    "Certificate", "Groups", "Layout", "Occurrence", "Segment", "alive", "block_soft_threshold", "compact",
    "expand", "group_norms", "iss_groups", "penalty", "prox", "strength_bound", "zero_dead", "zero_small_weights",
}  # fmt: skip
PARTS = sorted(path.name for path in (ROOT / "issref").iterdir() if (path / "__init__.py").is_file())
EXAMPLES = {
    "Layout", "alive", "block_soft_threshold", "compact", "expand", "group_norms", "iss_groups", "penalty", "prox",
    "lstm", "gru", "rhn", "linear", "embed",
}  # fmt: skip
SOURCED = {"iss.groups.iss_groups", "iss.penalty.penalty", "ops.lstm.lstm", "ops.gru.gru", "ops.rhn.rhn"}
SOURCE = re.compile(r"[Pp]aper|released|et al")


def modules():
    for part in PARTS:
        for path in sorted((ROOT / "issref" / part).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if not module.startswith("issref.kernels.jitted"):  # described once, in kernels.reference
                yield module


def described(module):
    """Every public function, class and method that a module defines, by its dotted name in the module."""

    def inside(node, path):
        for child in node.body:
            if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
                name = f"{path}{child.name}"
                yield name, child
                if isinstance(child, ast.ClassDef):
                    yield from inside(child, f"{name}.")

    path = ROOT.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return dict(inside(ast.parse(source.read_text(encoding="utf-8")), ""))


PUBLIC = {f"{module}.{name}": node for module in modules() for name, node in described(module).items()}
DOCS = {name: ast.get_docstring(node) or "" for name, node in PUBLIC.items()}
each = pytest.mark.parametrize("name", PUBLIC)


def some(condition):
    return pytest.mark.parametrize("name", [name for name in PUBLIC if condition(name)])


def found(name):
    """The object of a public name, and its module."""
    module = max((one for one in modules() if name.startswith(f"{one}.")), key=len)
    value = importlib.import_module(module)
    names = vars(value)
    for part in name.removeprefix(f"{module}.").split("."):
        value = inspect.getattr_static(value, part)
    return getattr(value, "__func__", value), names


def test_the_public_names_are_these():
    assert set(issref.__all__) == NAMES


@each
def test_a_docstring_begins_with_a_sentence(name):
    first = " ".join(DOCS[name].split("\n\n")[0].split())
    assert re.search(r"[.:;)](\s|$)", first), f"{name}: needs a sentence first, found {first!r}"


@each
def test_a_docstring_names_the_errors_that_are_raised(name):
    """Those of its own `raise` statements; those of the functions it calls are said there."""
    node = PUBLIC[name]
    if isinstance(node, ast.ClassDef):  # its __post_init__ is described by the class
        bodies = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__post_init__"]
    else:
        bodies = [node]
    raised = {
        ast.unparse(one.exc.func).split(".")[-1]
        for body in bodies
        for one in ast.walk(body)
        if isinstance(one, ast.Raise) and isinstance(one.exc, ast.Call)
    }
    for error in raised:
        if error[0].isupper():  # else it is made by a function
            assert error in DOCS[name], f"{name} raises {error} and does not say so"


@some(lambda name: name.startswith("issref.ops.") and name.count(".") == 3)  # the package has the checks
def test_an_op_states_the_shape_of_everything_differentiable(name):
    for argument in (*PUBLIC[name].args.posonlyargs, *PUBLIC[name].args.args):
        shape = ast.unparse(argument.annotation) if argument.annotation else ""
        assert re.search(r"\[.*, '.*'\]", shape), f"{name}: {argument.arg} needs a shape, found {shape!r}"


@some(lambda name: name.endswith((".loss", "cross_entropy")))
def test_a_loss_states_its_unit(name):
    assert re.search(r"nats|-log", DOCS[name])
    assert "mean over the batch" in " ".join(DOCS[name].split())


@pytest.mark.parametrize("name", sorted(SOURCED))
def test_what_follows_the_paper_says_where(name):
    assert SOURCE.search(DOCS[f"issref.{name}"])


@some(lambda name: re.fullmatch(r"issref\.models\.\w+\.Config", name))
def test_a_model_says_whose_it_is(name):
    assert SOURCE.search(importlib.import_module(name.removesuffix(".Config")).__doc__ or "")


def test_the_main_functions_have_an_example():
    assert {name.split(".")[-1] for name, text in DOCS.items() if ">>>" in text} >= EXAMPLES


@some(lambda name: ">>>" in DOCS[name])
def test_the_example_runs_as_printed(name):
    """After `import numpy as np` and `from issref import *`, and with the names of its module."""
    value, names = found(name)
    names = {**names, **{public: getattr(issref, public) for public in issref.__all__}, "np": np}
    example = doctest.DocTestParser().get_doctest(value.__doc__, names, name, None, 0)
    told = []
    assert doctest.DocTestRunner().run(example, out=told.append).failed == 0, "".join(told)
