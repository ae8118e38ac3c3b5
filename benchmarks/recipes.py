"""Measure the recipes of tutorials/recipes, for docs/recipes.md: `python -m benchmarks.recipes`.

Names of recipes as further words measure these alone. A recipe runs in a process of its own, and
trains with further seeds, always with a dense twin: the same program with strength 0. Times are
processor seconds, so that other programs on the machine do not count. Results: benchmarks/results/recipes.
"""

import functools
import json
import os
import platform
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import process_time
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import issref
from benchmarks.kept import RESULTS
from benchmarks.words import table, wrapped
from issref.report import COLOURS, STYLE
from issref.training.checkpoint import write_json

SCRIPTS, STORED = Path(__file__).parents[1] / "tutorials" / "recipes", RESULTS / "recipes"
NAMES = {  # in the order of the page
    "torch_lstm": "PyTorch: LSTM, Linear",
    "torch_crnn": "PyTorch: CRNN",
    "torch_attention": "PyTorch: attention",
    "torch_layernorm": "PyTorch: LSTM, LayerNorm",
    "torch_gru": "PyTorch: GRU",
    "jax_lstm": "JAX (Flax NNX): LSTM",
    "keras_lstm": "Keras 3: LSTM",
}
PICTURE = "![Units left and loss, relative to the dense twin](../benchmarks/results/recipes/recipes.png)"
SEEDS = 3
PACKAGES = ("numpy", "numba", "torch", "jax", "flax", "keras", "onnxruntime")
Result = dict[str, Any]


def measure(name: str) -> Result:
    """Run a recipe, train it with more seeds, and return units, losses, differences and times."""
    seconds = {"prox": 0.0, "train": 0.0}
    issref.prox = _timed(issref.prox, seconds)
    recipe = runpy.run_path(str(SCRIPTS / f"{name}.py"))
    seconds["prox"] = 0.0
    train = _timed(recipe["train"], seconds)
    differences = [float(np.abs(recipe["before"] - recipe[other]).max()) for other in ("after", "onnx")]
    runs = [_run(recipe, recipe["dense"], recipe["pruned"], recipe["alive"])]
    for seed in range(1, SEEDS):
        (dense, _), (pruned, alive) = (train(strength, seed) for strength in (0, recipe["STRENGTH"]))
        runs.append(_run(recipe, dense, pruned, alive))
    cost = {"strength": recipe["STRENGTH"], "prox_share": seconds["prox"] / seconds["train"]}
    return {**cost, "differences": differences, "runs": runs, "versions": _versions()}


def measure_into(file: str, name: str) -> None:
    """Write what `measure` returns."""
    write_json(Path(file), measure(name))


def _run(recipe: dict[str, Any], dense: Any, pruned: Any, alive: dict[str, np.ndarray]) -> Result:
    losses = [float(recipe["loss_of"](model, recipe["TEST"])) for model in (dense, pruned)]
    return {"units": {space: [len(mask), int(mask.sum())] for space, mask in alive.items()}, "losses": losses}


def _timed(function: Callable[..., Any], seconds: dict[str, float]) -> Callable[..., Any]:
    """Return the function, which then adds its processor seconds to an entry of its own name."""

    @functools.wraps(function)
    def timed(*arguments, **keywords):
        start = process_time()
        found = function(*arguments, **keywords)
        seconds[function.__name__] += process_time() - start
        return found

    return timed


def table_of_results() -> str:
    """Return the picture and the table of docs/recipes.md: means over the seeds."""
    rows, stored = [], load()
    for name, result in stored.items():
        dense, iss = np.mean([run["losses"] for run in result["runs"]], axis=0)
        changed = " / ".join(f"{difference:.0e}" for difference in result["differences"])
        units = f"{_units(result, 0)} → {_units(result, 1)}"
        cells = [
            units,
            f"{_gone(result):.0%}",
            f"{dense:.3f}",
            f"{iss:.3f}",
            f"{result['prox_share']:.0%}",
            changed,
        ]
        rows.append([f"[{NAMES[name]}](tutorials/recipes/{name}.py)", *cells])
    head = ["recipe", "units", "removed", "loss, dense", "loss, ISS", "proximal step", "change of outputs"]
    versions = {package: one for result in stored.values() for package, one in result["versions"].items()}
    seeds = len(next(iter(stored.values()))["runs"])
    note = (
        f"Means of {seeds} seeds, on data that neither training nor the choice of the strength has seen. "
        "Proximal step: its share of the processor time of training. Change of outputs: the largest difference "
        "between the trained and the smaller model, in the framework / in ONNX Runtime. "
        f"`python -m benchmarks.recipes`, {', '.join(f'{package} {one}' for package, one in versions.items())}."
    )
    return "\n\n".join([PICTURE, table(head, rows), wrapped(note)])


def load() -> dict[str, Result]:
    """Return the stored results in the order of the page, none if nothing is stored."""
    stored = json.loads((STORED / "recipes.json").read_text()) if (STORED / "recipes.json").exists() else {}
    return {name: stored[name] for name in NAMES if name in stored}


def draw() -> None:
    """Draw for each recipe and seed the units that are left and the loss, as shares of the dense twin's."""
    stored = load()
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(7.5, 2.9), sharey=True)
        for row, result in enumerate(stored.values()):
            for run in result["runs"]:
                before, left = np.sum(list(run["units"].values()), axis=0)
                panels[0].plot(left / before, row, "o", color=COLOURS[0], alpha=0.7)
                panels[1].plot(run["losses"][1] / run["losses"][0], row, "o", color=COLOURS[1], alpha=0.7)
        panels[0].axvline(0.7, color="0.6", linestyle=":")
        panels[1].axvline(1, color="0.6", linestyle=":")
        panels[0].set(yticks=range(len(stored)), yticklabels=[NAMES[name] for name in stored], xlim=(0, 1.02))
        panels[0].invert_yaxis()
        panels[0].set_title("units left (dotted: 30 % removed)")
        panels[1].set(title="loss on new data, dense twin = 1", xlim=(0, None))
        for panel in panels:
            panel.grid(axis="x")
        figure.savefig(STORED / "recipes.png", dpi=160)
        plt.close(figure)


def _units(result: Result, which: int) -> str:
    counts = [[pair[which] for pair in run["units"].values()] for run in result["runs"]]
    return " + ".join(f"{count:.0f}" for count in np.mean(counts, axis=0))


def _gone(result: Result) -> float:
    before, left = np.sum([pair for run in result["runs"] for pair in run["units"].values()], axis=0)
    return 1 - left / before


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            continue
    return found


def main(names: list[str]) -> None:
    """Measure recipes, each in a process of its own and an empty folder, and store the results one by one."""
    STORED.mkdir(exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(SCRIPTS.parents[1])
    for name in names or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            code = f"from benchmarks import recipes; recipes.measure_into('result.json', {name!r})"
            subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=folder, env=environment, check=True)
            result = json.loads((Path(folder) / "result.json").read_text())
        write_json(STORED / "recipes.json", {**load(), name: result})
    draw()


if __name__ == "__main__":
    main(sys.argv[1:])
