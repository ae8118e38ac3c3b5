"""Every kernel, jitted against its plain twin, on the arguments it gets in a real training step."""

from collections.abc import Iterable
from functools import wraps
from typing import Any

import numpy as np

from benchmarks.prox import kernel_names
from benchmarks.steps import VOCABULARY
from benchmarks.timing import interleaved, milliseconds, ratio, replaced
from benchmarks.words import Figures, Measured, number, part, table
from issref import iss_groups, kernels, prox
from issref.kernels import jitted, reference
from issref.models import LANGUAGE_MODELS
from issref.ptb.settings import PRESETS, QUICK, Settings
from issref.training.options import strengths
from issref.training.updates import clipped_sgd

QUICK_RUNS = [PRESETS[name] for name in QUICK.values()]
Arguments = dict[str, tuple[Any, ...]]


def measure(seconds: float) -> Figures:
    """<kernel>/reference_ms, <kernel>/jitted_ms and <kernel>/ratio."""
    figures, arguments = {}, recorded()
    for name, given in arguments.items():
        sides = {
            "reference": lambda name=name, given=given: getattr(reference, name)(*given),
            "jitted": lambda name=name, given=given: getattr(jitted, name)(*given),
        }
        times = interleaved(sides, seconds / len(arguments))
        found = milliseconds(times) | ratio(times, "reference", "jitted", "ratio")
        figures |= {f"{name}/{figure}": value for figure, value in found.items()}
    return figures


def recorded(runs: Iterable[Settings] = QUICK_RUNS, vocabulary=VOCABULARY) -> Arguments:
    """The largest arguments of each kernel in one step of each model, with a proximal step, by its settings."""
    found: Arguments = {}

    def recording(name, kernel):
        @wraps(kernel)
        def record(*arguments):
            if name not in found or _size(arguments) > _size(found[name]):
                found[name] = tuple(np.copy(each) if isinstance(each, np.ndarray) else each for each in arguments)
            return kernel(*arguments)

        return record

    with replaced(kernels, {name: recording(name, getattr(kernels, name)) for name in kernel_names()}):
        for settings in runs:
            _step(settings, vocabulary)
    return found


def _step(settings: Settings, vocabulary: int) -> None:
    model, rng, schedule = LANGUAGE_MODELS[settings.network.model], np.random.default_rng(0), settings.schedule
    config = model.configure(vocabulary, settings.network.flat())
    layout = model.layout(config)
    params = model.init_params(config, layout, rng, np.float32)
    tokens, targets = rng.integers(0, vocabulary, (2, schedule.steps, schedule.batch))
    _, backward = model.loss(params, model.zero_state(params, schedule.batch), tokens=tokens, targets=targets)
    clipped_sgd(schedule.clip)(params, backward(1.0)[0], schedule.learning_rate, {})
    groups = iss_groups(layout, model.spaces(layout.axes))
    prox(params, groups, groups.spread(strengths(settings.penalty.strength, list(groups.first))))


def _size(arguments: tuple[Any, ...]) -> int:
    return sum(each.size for each in arguments if isinstance(each, np.ndarray))


def section(measured: Measured) -> str:
    """A line for each kernel."""
    if not (figures := measured.get("loops")):
        return ""
    names = dict.fromkeys(name.partition("/")[0] for name in figures)
    columns = ("reference_ms", "jitted_ms", "ratio")
    rows = [[f"`{name}`", *(number(figures[f"{name}/{column}"]) for column in columns)] for name in names]
    return part(
        "Kernels: NumPy reference against jitted twin, in milliseconds",
        "One call each, with its largest arguments in a step of a model's quick run.",
        table(["kernel", "reference", "jitted", "times as fast"], rows),
    )
