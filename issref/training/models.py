"""Models of runs: initial weights, the compact model of a finished run, its sizes."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from issref import __version__
from issref.iss.compact import compact, expand
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
    params, about = load_model(folder, {"layout", "alive", "words"})
    masks = {space: np.array(mask, bool) for space, mask in about["alive"].items()}
    params, full = expand(params, Layout.from_json(json.dumps(about["layout"])), masks)
    if (full.sizes, full.axes.keys()) != (layout.sizes, layout.axes.keys()):  # the groups may differ
        raise ValueError(f"--init: {folder}: expected a model of sizes {layout.sizes}, got {full.sizes}")
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
    """Load a run's compact model and its metadata. Raises ValueError if it lacks one of the `needed` entries."""
    path = folder / FILE
    if not path.exists() and (folder / LAST).exists():
        raise ValueError(f"{folder}: expected a finished run, got one to be resumed with --resume {folder}")
    params, about = checkpoint.load(path)
    if missing := needed - about.keys():
        raise ValueError(f"{path}: expected a compact model, got one without {sorted(missing)}")
    return params, about


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
