"""The targets of the benchmarks: figures with stable names, and their bounds."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from benchmarks import evaluation, memory, prox, roofline, shrink
from benchmarks.words import Measured, number


class Target(NamedTuple):
    """One figure: its name, the benchmark that measures it, its meaning, bounds and unit.

    sign: ">=" for a lower bound, "<=" for an upper bound. The bounds are for AVX-512 and for other processors.
    `limits` explains why the figure is not better.
    """

    name: str
    benchmark: str
    what: str
    sign: str
    bounds: tuple[float, float]
    unit: str
    limits: Callable[[Measured], str]

    def bound(self, kind: str) -> float:
        """The bound for a kind of processor."""
        return self.bounds[kind != "AVX-512"]

    def met(self, value: float, kind: str) -> bool:
        """Whether a value keeps the bound."""
        return value >= self.bound(kind) if self.sign == ">=" else value <= self.bound(kind)

    def wanted(self) -> str:
        """The bound in words; if there are two, first that for AVX-512."""
        spelled = " / ".join(dict.fromkeys(map(self.spell, self.bounds)))
        return f"{'at least' if self.sign == '>=' else 'at most'} {spelled}"

    def spell(self, value: float) -> str:
        """A value in the figure's unit."""
        return f"{100 * value:.3g} %" if self.unit == "%" else f"{number(value)} {self.unit}".strip()


def _in_float64(measured: Measured) -> str:
    return "float64 has half as many numbers per vector and twice the bytes, so 2 is the limit."


SIZES = {"small": "2x200, 20x20", "medium": "2x650, 35x20, dropout", "large": "2x1500, 35x20, dropout"}
STEP = {size: f"training step, {words}" for size, words in SIZES.items()}
COMPACT, TIMES = "evaluation of the compact (373, 315) model", "times as fast as PyTorch"
PRODUCTS, SHARE = "time over that of its matrix products", "share of the peak of a large product"
OF = {size: partial(roofline.limits, size=size) for size in SIZES}

# fmt: off
TARGETS = tuple(Target(*fields) for fields in (
    ("step_small_vs_torch", "pairs-small", f"{STEP['small']}: {TIMES} eager", ">=", (1.3, 1.5), "", OF["small"]),
    ("step_medium_vs_torch", "pairs-medium", f"{STEP['medium']}: {TIMES} eager", ">=", (1.25, 1.6), "",
     OF["medium"]),
    ("step_large_vs_torch", "pairs-large", f"{STEP['large']}: {TIMES} eager", ">=", (1.15, 1.3), "", OF["large"]),
    ("step_small_vs_matmul", "step-small", f"{STEP['small']}: {PRODUCTS}", "<=", (1.5, 1.5), "", OF["small"]),
    ("step_large_vs_matmul", "step-large", f"{STEP['large']}: {PRODUCTS}", "<=", (1.25, 1.25), "", OF["large"]),
    ("compact_vs_torch", "pairs-evaluation", f"{COMPACT}: {TIMES}", ">=", (1.3, 1.3), "", evaluation.limits),
    ("compact_vs_onnxruntime", "pairs-evaluation", f"{COMPACT}: time over ONNX Runtime's", "<=", (1.05, 1.05), "",
     evaluation.limits),
    ("dense_vs_compact", "evaluation", "evaluation: time of the dense (1500, 1500) model over the compact one's",
     ">=", (7.48, 7.48), "", evaluation.limits),
    ("lstm_forward_peak_share", "roofline", f"`lstm_forward`, H = 1500: {SHARE}", ">=", (0.7, 0.7), "%",
     OF["large"]),
    ("lstm_backward_peak_share", "roofline", f"`lstm_backward`, H = 1500: {SHARE}", ">=", (0.7, 0.7), "%",
     OF["large"]),
    ("prox_share_small", "prox-small", "exact prox, warm: share of a whole training step, 2x200", "<=",
     (0.08, 0.06), "%", partial(prox.limits, size="small")),
    ("prox_share_large", "prox-large", "exact prox, warm: share of a whole training step, 2x1500", "<=",
     (0.2, 0.2), "%", partial(prox.limits, size="large")),
    ("shrink_ratio_small", "shrink-small", "`--small`: training time over steps x dense step", "<=",
     (0.95, 0.95), "", partial(shrink.limits, name="small")),
    ("shrink_ratio_zaremba", "shrink-zaremba",
     "a whole `zaremba-small` run: training time over steps x dense step", "<=", (0.8, 0.8), "",
     partial(shrink.limits, name="zaremba")),
    ("float64_vs_float32", "step-small", f"{STEP['small']}: time in float64 over that in float32", "<=",
     (2.5, 2.5), "", _in_float64),
    ("peak_mb_small", "memory", "peak memory of `--small`", "<=", (600, 600), "MB",
     partial(memory.limits, size="small")),
    ("peak_mb_large", "memory", f"peak memory of a {STEP['large']}", "<=", (2500, 2500), "MB",
     partial(memory.limits, size="large")),
))
# fmt: on


def values(measured: Measured) -> dict[str, float | None]:
    """Every figure by its stable name; None for what was not measured."""
    return {target.name: measured.get(target.benchmark, {}).get(target.name) for target in TARGETS}
