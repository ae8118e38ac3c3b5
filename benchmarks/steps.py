"""A training step, issref's against PyTorch's and against its matrix products alone; float64 against float32.

A step: loss, backward, clip, update; random words, dropout drawn inside the step where the preset has it.
"""

from collections.abc import Callable
from itertools import cycle
from typing import NamedTuple

import numpy as np

from benchmarks import products
from benchmarks.timing import interleaved, milliseconds, optional, ratio
from benchmarks.words import Figures, Measured, number, part, table
from issref.iss.layout import Layout, Params
from issref.models import ptb_lstm as model
from issref.ptb.settings import PRESETS, Settings
from issref.training.updates import clipped_sgd

VOCABULARY = 10_000
SIZES = {size: PRESETS[f"zaremba-{size}"] for size in ("small", "medium", "large")}


class Task(NamedTuple):
    """A model to train, and windows of random words, (2, T, B) each: tokens, then targets."""

    settings: Settings
    config: model.Config
    layout: Layout
    params: Params
    windows: list[np.ndarray]


def task(settings: Settings, vocabulary: int = VOCABULARY) -> Task:
    """The first weights of a run with these settings, and eight windows."""
    config = model.configure(vocabulary, settings.network.flat())
    layout, rng = model.layout(config), np.random.default_rng(0)
    params = model.init_params(config, layout, rng, settings.run.dtype)
    shape = (2, settings.schedule.steps, settings.schedule.batch)
    windows = [rng.integers(0, vocabulary, shape) for _ in range(8)]
    return Task(settings, config, layout, params, windows)


def training_step(work: Task) -> Callable[[], float]:
    """One step of --method dense at a call; returns the loss."""
    settings, config, layout, params, windows = work
    del work  # whose first weights a run does not keep
    state = model.state_layout(layout, settings.schedule.batch).allocate(settings.run.dtype)
    rng, turn, descend = np.random.default_rng(0), cycle(windows), clipped_sgd(settings.schedule.clip)

    def step() -> float:
        nonlocal params, state
        tokens, targets = next(turn)
        masks = model.draw_masks(config, layout.sizes, rng, settings.schedule.steps, settings.schedule.batch)
        (cost, state), backward = model.loss(params, state, tokens=tokens, targets=targets, masks=masks)
        params = descend(params, backward(1.0)[0], settings.schedule.learning_rate, {})
        return float(cost)

    return step


def measure(size: str, seconds: float) -> Figures:
    """step_<size>_vs_matmul: time over that of the products; interleaved_vs_torch: PyTorch's over issref's."""
    settings = SIZES[size]
    work, schedule = task(settings), settings.schedule
    multiply, threads = products.multiplier(products.matrix_products(work.layout, schedule.steps, schedule.batch))
    sides = {"issref": training_step(work), "products": multiply}
    torch_side = optional("benchmarks.torch_side")
    if torch_side:
        sides["torch"] = torch_side.training_step(work)
        tolerance = 1e-4 if settings.network.keep == 1 else 0.02
        _check_first_losses(sides["issref"](), sides["torch"](), tolerance)
    if size == "small":
        sides["float64"] = training_step(task(settings.replaced(dtype="float64")))
    times = interleaved(sides, seconds)
    figures = milliseconds(times) | ratio(times, "issref", "products", f"step_{size}_vs_matmul")
    figures["products_on_one_thread"] = threads.count(1) / len(threads)
    if torch_side:
        figures |= ratio(times, "torch", "issref", "interleaved_vs_torch")
    if size == "small":
        figures |= ratio(times, "float64", "issref", "float64_vs_float32")
    return figures


def _check_first_losses(ours: float, theirs: float, tolerance: float) -> None:
    """The same weights and words give the same loss, but for dropout."""
    if abs(ours - theirs) > tolerance * theirs:
        raise ArithmeticError(f"issref and PyTorch need the same first loss, found {ours} and {theirs}")


def section(measured: Measured) -> str:
    """A line for each size."""
    rows = []
    for size, settings in SIZES.items():
        if figures := measured.get(f"step-{size}"):
            sizes, schedule = settings.network.hidden_sizes, settings.schedule
            shape = f"{len(sizes)}x{sizes[0]}, {schedule.steps} steps of {schedule.batch} rows"
            shape += f", keep {settings.network.keep:g}"
            sides = ("issref", "torch", "products", "float64")
            rows.append([size, shape, *(number(figures.get(f"{side}_ms")) for side in sides)])
    if not rows:
        return ""
    head = ["", "LSTM", "issref", "PyTorch eager", "matrix products only", "issref, float64"]
    return part(
        "A training step, in milliseconds",
        "Loss, backward, clip by the global norm, update; random words, V = 10,000, float32; the step includes "
        "drawing the dropout masks; all sides take turns in one process. The products are np.matmul into "
        "allocated arrays, each with its best number of threads. PyTorch starts from the same weights, and its "
        "first loss is checked to be the same.",
        table(head, rows, words=2),
    )
