"""Models of runs: initial weights, the compact model of a finished run, its sizes."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from issref import __version__
from issref.iss.compact import Alive, compact, expand
from issref.iss.groups import alive, iss_groups
from issref.iss.layout import Layout, Params
from issref.models.protocol import Network
from issref.training import checkpoint
from issref.training.options import Options, RunOptions
from issref.training.process import versions
from issref.training.recorder import Recorder
from issref.training.runs import LAST

FILE = "model.safetensors"
Model = tuple[Params, Layout]


def init_params(model: Network, config: Any, options: RunOptions) -> tuple[Params, Layout, np.random.Generator]:
    """Return the initial weights, their layout, and the random generator after drawing them."""
    layout, rng = model.layout(config), np.random.default_rng(options.seed)
    return model.init_params(config, layout, rng, options.dtype), layout, rng


def load_initial_params(folder: Path, layout: Layout, corpus: Any, dtype: str) -> Params:
    """Load the weights of a finished run at its original widths, exactly zero where components are dead.

    Their gradients are exactly zero too, so they stay dead. Raises ValueError unless layout and vocabulary agree.
    """
    params, about = load_model(folder, {"words"})
    small, masks = check_model(f"--init: {folder}", params, about, layout)
    params, _ = expand(params, small, masks)
    for name in ("words", "characters"):  # a language model has no characters
        if tuple(about.get(name, ())) != getattr(corpus, name, ()):
            raise ValueError(f"--init: {folder}: expected the {name} of {corpus.name}, got others")
    return {array: values.astype(dtype) for array, values in params.items()}


def save_model(model: Network, full: Params, layout: Layout, folder: Path, **about: Any) -> Model:
    """Cut the components that nothing reads out of the params, and save the compact model in the run's folder.

    Returns the compact params and their layout.
    """
    masks = alive(full, iss_groups(layout, model.spaces(layout.axes)), model.readers_of(layout))
    small, small_layout = compact(full, layout, masks)
    about |= {
        "layout": json.loads(small_layout.to_json()),
        "alive": {space: mask.tolist() for space, mask in masks.items()},
    }
    checkpoint.save(folder / FILE, small, **about)
    return small, small_layout


def load_model(folder: Path, needed: set[str]) -> tuple[Params, dict[str, Any]]:
    """Load a run's compact model and its metadata.

    Raises ValueError if it lacks layout, alive masks or one of the `needed` entries, or for weights that are not
    finite numbers.
    """
    path = folder / FILE
    if not path.exists() and (folder / LAST).exists():
        raise ValueError(f"{folder}: expected a finished run, got one to be resumed with --resume {folder}")
    params, about = checkpoint.load(path)
    if missing := {"layout", "alive", *needed} - about.keys():
        raise ValueError(f"{path}: expected a compact model, got one without {sorted(missing)}")
    for array, values in params.items():
        if values.dtype not in (np.float32, np.float64) or not np.isfinite(values).all():
            found = "others" if values.dtype.kind == "f" else values.dtype
            raise ValueError(f"{path}, {array}: expected finite numbers in float32 or float64, got {found}")
    return params, about


def check_model(source: str, params: Params, about: dict[str, Any], full: Layout) -> tuple[Layout, Alive]:
    """Return the layout and the alive masks of a compact model.

    Raises ValueError, naming its `source`, unless it is a model of layout `full` without its dead components.
    """
    small, masks = Layout.from_json(json.dumps(about["layout"])), alive_masks(source, about["alive"])
    sizes = {**small.sizes, **{space: len(mask) for space, mask in masks.items()}}
    if sizes != full.sizes:
        raise ValueError(f"{source}: expected a model of sizes {full.sizes}, got {sizes}")
    cut = full.resized({space: int(mask.sum()) for space, mask in masks.items()})
    if (small.sizes, _unmarked(small)) != (cut.sizes, _unmarked(cut)):
        raise ValueError(f"{source}: expected the layout of its settings without its dead components, got another")
    small.check(params)
    return small, masks


def _unmarked(layout: Layout) -> dict[str, Any]:
    """Return the axes of a layout without `~`: what is penalised depends on the method, the arrays do not."""
    return {
        array: [[space.removeprefix("~") for space in axis] for axis in axes]
        for array, axes in layout.axes.items()
    }


def alive_masks(source: str, alive: Any) -> Alive:
    """Return the alive masks that a model's metadata hold. Raises ValueError unless they are lists of booleans."""
    if not isinstance(alive, dict) or not all(isinstance(mask, list) for mask in alive.values()):
        raise ValueError(f"{source}, alive: expected a list of booleans for each space, got {str(alive)[:60]}")
    for space, mask in alive.items():
        if not all(isinstance(one, bool) for one in mask):
            raise ValueError(f"{source}, alive, {space}: expected booleans, got {str(mask)[:60]}")
    return {space: np.array(mask, bool) for space, mask in alive.items()}


def describe_result(
    model: Network, layouts: dict[str, Layout], recorder: Recorder, settings: Options, **measured: Any
) -> dict[str, Any]:
    """Return a run's result.json: sizes of the full and the compact model, `measured`, settings, versions."""
    spaces = {name: model.spaces(layout.axes) for name, layout in layouts.items()}
    return {
        "components": {n: {space: layout.sizes[space] for space in spaces[n]} for n, layout in layouts.items()},
        "parameters": {name: layout.parameters() for name, layout in layouts.items()},
        "multiply_adds": {name: model.multiply_adds(layout) for name, layout in layouts.items()},
        **measured,
        "cuts": recorder.all_cuts(),
        "settings": settings.to_dict(),
        "finished": time.strftime("%Y-%m-%d %H:%M"),
        "versions": {"issref": __version__, **versions()},
    }
