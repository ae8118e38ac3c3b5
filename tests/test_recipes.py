"""Recipes run against the real frameworks: units go, the loss does not rise, and the outputs stay the same."""

import runpy
from pathlib import Path

import numpy as np
import pytest

RECIPES = sorted((Path(__file__).parents[1] / "tutorials" / "recipes").glob("*.py"))
NEEDS = {"torch": ("torch",), "jax": ("jax", "flax"), "keras": ("torch", "keras")}
each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)


@pytest.mark.filterwarnings("ignore")  # PyTorch's exporters warn of each other
@each_recipe
def test_a_recipe_removes_units_without_loss(recipe, tmp_path, monkeypatch, capsys):
    """30 % of the units, a loss on new data that is no higher than the dense twin's, and outputs equal to 1e-5."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    for package in (*NEEDS[recipe.stem.partition("_")[0]], "onnx", "onnxruntime"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    ran = runpy.run_path(str(recipe))
    masks = np.concatenate(list(ran["alive"].values()))
    assert 0 < masks.mean() <= 0.7
    for other in ("after", "onnx"):
        assert ran[other].shape == ran["before"].shape
        assert np.abs(ran[other] - ran["before"]).max() <= 1e-5
    dense, iss = (float(ran["loss_of"](ran[model], ran["TEST"])) for model in ("dense", "small"))
    assert iss <= dense
    printed = capsys.readouterr().out
    assert f"dense {dense:.4f}, with ISS {iss:.4f}" in printed


@each_recipe
def test_a_recipe_is_short_and_most_of_it_is_not_iss(recipe):
    lines = [line for line in recipe.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    code = [line for line in lines if not line.startswith(("import ", "from "))]
    assert len(code) <= 60
    assert 5 <= sum("# ISS" in line for line in lines) <= len(lines) / 3
