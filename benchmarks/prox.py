"""Time of the exact proximal step with warm start and of a training step, in the first steps of a real run."""

import statistics
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import contextmanager
from functools import wraps

import numpy as np
from tqdm import tqdm

from benchmarks.steps import SIZES, Task, task
from benchmarks.timing import milliseconds, replaced
from benchmarks.words import Figures, Measured, number, part, table
from issref import iss_groups, kernels, prox
from issref.data import corpus as corpora
from issref.models import ptb_lstm as model
from issref.training.options import strengths
from issref.training.updates import clipped_sgd

COLD, LEAST = 2, 8  # steps before the measured ones, and of these


def measure(size: str, seconds: float) -> Figures:
    """prox_share_<size>: the proximal step over the whole step, gradient and update included."""
    corpus = corpora.load("ptb", log=tqdm.write)
    settings = SIZES[size]
    windows = corpora.windows(corpus.train, settings.schedule.batch, settings.schedule.steps)
    work = task(settings, len(corpus.words))._replace(windows=[np.array(window) for window in windows])
    times = trajectory(work, seconds)
    shares = np.divide(times["prox"], np.add(times["prox"], times["step"]))
    low, middle, high = (float(value) for value in np.quantile(shares, (0.25, 0.5, 0.75)))
    name = f"prox_share_{size}"
    rounds = {"sweeps": statistics.median(times.pop("sweeps")), "steps": len(shares)}
    return {name: middle, f"{name}/low": low, f"{name}/high": high} | milliseconds(times) | rounds


def trajectory(work: Task, seconds: float, least: int = LEAST) -> dict[str, list[float]]:
    """Seconds of "step" (all but the prox), "prox" and of its kernels, and its "sweeps", at each step of a run."""
    settings, params = work.settings, work.params
    schedule, descend = settings.schedule, clipped_sgd(settings.schedule.clip)
    groups = iss_groups(work.layout, model.spaces(work.layout.axes))
    strength = groups.spread(strengths(settings.penalty.strength, list(groups.first)))
    strength = schedule.learning_rate * strength
    state = model.state_layout(work.layout, settings.schedule.batch).allocate(settings.run.dtype)
    rng, warm, found = np.random.default_rng(0), None, defaultdict(list)
    started = time.perf_counter()
    for index, (tokens, targets) in enumerate(tqdm(iter(work.windows), "steps", leave=False)):
        begun = time.perf_counter()
        masks = model.draw_masks(work.config, work.layout.sizes, rng, schedule.steps, schedule.batch)
        (_, state), backward = model.loss(params, state, tokens=tokens, targets=targets, masks=masks)
        params = descend(params, backward(1.0)[0], settings.schedule.learning_rate, {})
        stepped = time.perf_counter() - begun
        with clocked_kernels() as parts:
            begun = time.perf_counter()
            params, certificate = prox(params, groups, strength, warm_start=warm)
            parts["prox"] = time.perf_counter() - begun
        warm = certificate.warm_start
        if index >= COLD:
            for name, value in {"step": stepped, "sweeps": certificate.sweeps, **parts}.items():
                found[name].append(value)
        if time.perf_counter() - started > seconds and index + 1 >= COLD + least:
            break
    return dict(found)


@contextmanager
def clocked_kernels():
    """Yields the seconds spent in each kernel while the context lasts."""
    parts = defaultdict(float)

    def clocked(name, kernel):
        @wraps(kernel)
        def timed(*arguments):
            started = time.perf_counter()
            result = kernel(*arguments)
            parts[name] += time.perf_counter() - started
            return result

        return timed

    with replaced(kernels, {name: clocked(name, getattr(kernels, name)) for name in kernel_names()}):
        yield parts


def kernel_names() -> Iterable[str]:
    """Every kernel that issref.kernels offers."""
    return [name for name, value in vars(kernels).items() if hasattr(value, "__wrapped__")]


def limits(measured: Measured, size: str) -> str:
    """A sentence on where the time of a proximal step goes."""
    figures = measured[f"prox-{size}"]
    parts = {name: figures.get(f"{name}_ms") for name in kernel_names()}
    named = ", ".join(f"`{name}` {number(value)}" for name, value in parts.items() if value)
    return f"Of the {number(figures['prox_ms'])} ms of a proximal step, {figures['sweeps']:g} sweeps: {named}."


def section(measured: Measured) -> str:
    """A line for each size, and where the time of a proximal step goes."""
    sizes = {size: measured[f"prox-{size}"] for size in SIZES if f"prox-{size}" in measured}
    if not sizes:
        return ""
    names = [name for name in kernel_names() if any(f"{name}_ms" in figures for figures in sizes.values())]
    rows = [
        [
            size,
            number(figures["step_ms"]),
            number(figures["prox_ms"]),
            f"{figures['sweeps']:g}",
            *(number(figures.get(f"{name}_ms")) for name in names),
        ]
        for size, figures in sizes.items()
    ]
    return part(
        "The proximal step, in milliseconds",
        "The first steps of a run on Penn TreeBank at the preset's strength, each with a warm start from the "
        "previous step. The first column is the time of loss, backward, clip and update; the last columns are "
        "the kernels of the proximal step.",
        table(["", "step without it", "proximal step", "sweeps", *(f"`{name}`" for name in names)], rows),
    )
