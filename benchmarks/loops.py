"""Every kernel, jitted against its plain twin, on the arguments it gets in a real training step."""

from functools import wraps
from typing import Any

import numpy as np

from benchmarks.prox import kernel_names
from benchmarks.steps import SIZES, VOCABULARY, task
from benchmarks.timing import interleaved, milliseconds, ratio, replaced
from benchmarks.words import Figures, Measured, number, part, table
from issref import iss_groups, kernels, prox
from issref.iss.layout import Layout, Params
from issref.kernels import jitted, reference
from issref.models import LANGUAGE_MODELS, ptb_rhn
from issref.ptb.settings import PRESETS, Settings
from issref.training.options import strengths
from issref.training.updates import clipped_sgd

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


def recorded(
    lstm: Settings = SIZES["small"], rhn: Settings = PRESETS["rhn-small"], vocabulary=VOCABULARY
) -> Arguments:
    """The largest arguments of each kernel in one step of an LSTM and one of an RHN, with a proximal step each."""
    found: Arguments = {}

    def recording(name, kernel):
        @wraps(kernel)
        def record(*arguments):
            if name not in found or _size(arguments) > _size(found[name]):
                found[name] = tuple(np.copy(each) if isinstance(each, np.ndarray) else each for each in arguments)
            return kernel(*arguments)

        return record

    work = task(lstm, vocabulary)
    config = ptb_rhn.configure(vocabulary, rhn.network.flat())
    layout = ptb_rhn.layout(config)
    params = ptb_rhn.init_params(config, layout, np.random.default_rng(0), np.float32)
    with replaced(kernels, {name: recording(name, getattr(kernels, name)) for name in kernel_names()}):
        _step(lstm, work.params, work.layout, work.windows[0])
        _step(rhn, params, layout, work.windows[0])
    return found


def _step(settings: Settings, params: Params, layout: Layout, window: np.ndarray) -> None:
    model = LANGUAGE_MODELS[settings.network.model]
    state = model.zero_state(params, window.shape[-1])
    _, backward = model.loss(params, state, tokens=window[0], targets=window[1])
    clipped_sgd(settings.schedule.clip)(params, backward(1.0)[0], settings.schedule.learning_rate, {})
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
        "One call each, with its largest arguments in a step of the small LSTM (2x200) or of the small RHN.",
        table(["kernel", "reference", "jitted", "times as fast"], rows),
    )
