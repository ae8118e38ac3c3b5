"""Evaluation of the paper's compact model, against PyTorch and ONNX Runtime, and of its dense model.

Ten rows of thirty words through the model, logits included, softmax not, from a zero state.
"""

import math
from collections.abc import Callable

import numpy as np

from benchmarks.steps import SIZES, VOCABULARY, task
from benchmarks.timing import interleaved, milliseconds, optional, ratio
from benchmarks.words import Figures, Measured, number, part, table
from issref.iss.layout import Layout, Params
from issref.kernels.inference import fixed_weights
from issref.models import ptb_lstm as model
from issref.ops.lstm import lstm

DENSE, COMPACT, EMBED = (1500, 1500), (373, 315), 1500  # paper, table 1: the ISS of the large model
STEPS, BATCH = 30, 10
PAPER = 10.59  # times as fast, measured by the paper


def weights(hidden_sizes: tuple[int, ...], embed_size: int = EMBED) -> tuple[Params, Layout]:
    """A model of these widths."""
    work = task(SIZES["large"].replaced(hidden_sizes=hidden_sizes, embed_size=embed_size))
    return work.params, work.layout


def evaluation(params: Params, tokens: np.ndarray) -> Callable[[], np.ndarray]:
    """The logits of a window from a zero state, at a call."""
    state = model.zero_state(params, tokens.shape[1])
    return lambda: model.logits(params, state, tokens=tokens)[0][0]


def words() -> np.ndarray:
    """Random words (T, B)."""
    return np.random.default_rng(0).integers(0, VOCABULARY, (STEPS, BATCH))


def lstms(params: Params) -> Callable[[], np.ndarray]:
    """The LSTM layers alone, on inputs that are there already."""
    names, state = model.spaces(params), model.zero_state(params, BATCH)
    inputs = np.random.default_rng(0).standard_normal((STEPS, BATCH, EMBED), np.float32)

    def run() -> np.ndarray:
        x = inputs
        for name in names:
            (x, *_), _ = lstm(
                x, state[f"{name}/h"], state[f"{name}/c"], params[f"{name}/kernel"], params[f"{name}/bias"]
            )
        return x

    return run


def measure(seconds: float) -> Figures:
    """dense_vs_compact; interleaved_vs_torch, interleaved_vs_onnxruntime: its time over issref's, compact."""
    (compact, small), (dense, large), tokens = weights(COMPACT), weights(DENSE), words()
    sides: dict[str, Callable[[], np.ndarray]] = {"compact": evaluation(compact, tokens)}
    for side, name in {"torch_side": "torch", "onnx_side": "onnxruntime"}.items():
        if framework := optional(f"benchmarks.{side}"):
            sides[name] = framework.evaluation(compact, tokens)
    for name, side in sides.items():
        _check_outputs(name, side(), sides["compact"]())
    sides |= {
        "dense": evaluation(dense, tokens),
        "compact_lstms": lstms(compact),
        "dense_lstms": lstms(dense),
    }
    with fixed_weights():  # packed once, as the frameworks do
        times = interleaved(sides, seconds)
    figures = milliseconds(times) | ratio(times, "dense", "compact", "dense_vs_compact")
    figures |= ratio(times, "dense_lstms", "compact_lstms", "lstms_dense_vs_compact")
    for name, layout in {"compact": small, "dense": large}.items():
        figures[f"{name}_multiply_adds"] = model.multiply_adds(layout)
        softmax = math.prod(layout.shape("softmax/kernel"))
        figures[f"{name}_lstms_multiply_adds"] = figures[f"{name}_multiply_adds"] - softmax
    for name in ("torch", "onnxruntime"):
        if name in sides:
            figures |= ratio(times, name, "compact", f"interleaved_vs_{name}")
    return figures


def _check_outputs(name: str, theirs: np.ndarray, ours: np.ndarray) -> None:
    """The same weights and words give the same logits."""
    if (difference := float(np.abs(theirs - ours).max())) > 1e-5:
        raise ArithmeticError(f"{name} and issref need the same logits, found a difference of {difference}")


def limits(measured: Measured) -> str:
    """A sentence on what keeps the compact model from being faster; "" if it was not measured."""
    if not (figures := measured.get("evaluation")):
        return ""
    peak = measured.get("roofline", {}).get("peak_gflops")
    compact, dense = (
        2 * figures[f"{name}_multiply_adds"] * STEPS * BATCH / (1e6 * figures[f"{name}_ms"])
        for name in ("compact", "dense")
    )
    return (
        f"The LSTMs take {number(figures['compact_lstms_ms'])} of the compact model's "
        f"{number(figures['compact_ms'])} ms. The compact model runs at {number(compact)} GFlop/s, the dense one "
        f"at {number(dense)}; the peak of a large product is {number(peak)}."
    )


def section(measured: Measured) -> str:
    """Every side, and what the dense model costs beside the compact one."""
    if not (figures := measured.get("evaluation")):
        return ""
    sides = {
        "issref, compact": "compact",
        "PyTorch, compact": "torch",
        "ONNX Runtime, compact": "onnxruntime",
        "issref, dense": "dense",
        "issref, compact, LSTMs only": "compact_lstms",
        "issref, dense, LSTMs only": "dense_lstms",
    }
    rows = [[name, number(figures.get(f"{side}_ms"))] for name, side in sides.items()]
    whole = figures["dense_multiply_adds"] / figures["compact_multiply_adds"]
    alone = figures["dense_lstms_multiply_adds"] / figures["compact_lstms_multiply_adds"]
    return part(
        f"Evaluation of the compact {COMPACT} and the dense {DENSE} model, in milliseconds",
        f"{BATCH} rows of {STEPS} words, embedding of width {EMBED}, V = 10,000, with logits but without the "
        "softmax, from a zero state; all sides take turns in one process. Weights are packed once "
        "(`issref.kernels.inference.fixed_weights`). The logits of all three differ by at most 1e-5.",
        table(["", "ms"], rows),
        f"Dense over compact: {number(figures['dense_vs_compact'])} times the time with the logits, for "
        f"{whole:.2f} times the multiply-adds; {number(figures['lstms_dense_vs_compact'])} times for the LSTMs "
        f"only, for {alone:.2f} times the multiply-adds; the paper measured {PAPER}.",
    )
