"""Time against sparsity: zeros anywhere, as scipy.sparse keeps them, against whole components cut out.

The paper's point: at equal sparsity, structure is what a processor can use. The matrix is the kernel of an LSTM of
1500 units that read 1500; zeros lie anywhere in it (CSR), or the same fraction of it is gone with components that
are absent from its rows and columns alike (a smaller dense matrix).
"""

import math
import operator
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from benchmarks.timing import interleaved, milliseconds, optional
from benchmarks.words import Figures, Measured, number, part, table
from issref.report import COLOURS, STYLE

INPUTS, OUTPUTS, BATCH = 3000, 6000, 10
PICTURE = Path("pictures/sparsity.png")
SPARSITIES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


def measure(seconds: float) -> Figures:
    """csr/<sparsity>_ms, compact/<sparsity>_ms, one thread each, which is all that scipy has."""
    rng, sparse, sides = np.random.default_rng(0), optional("scipy.sparse"), {}
    x = rng.standard_normal((BATCH, INPUTS), np.float32)
    for sparsity in SPARSITIES:
        kept = math.sqrt(1 - sparsity)
        inputs, outputs = round(kept * INPUTS), round(kept * OUTPUTS)
        kernel = rng.standard_normal((inputs, outputs), np.float32)
        sides[f"compact/{sparsity}"] = partial(np.matmul, x[:, :inputs].copy(), kernel)
        if sparse:  # the sparse matrix from the left, transposed, which is what CSR is good at
            holes = rng.random((OUTPUTS, INPUTS), np.float32) >= sparsity
            matrix = sparse.csr_array(rng.standard_normal((OUTPUTS, INPUTS), np.float32) * holes)
            sides[f"csr/{sparsity}"] = partial(operator.matmul, matrix, x.T.copy())
    with threadpool_limits(1, user_api="blas"):
        return milliseconds(interleaved(sides, seconds))


def curve(figures: dict[str, float], side: str) -> list[float]:
    """Milliseconds at each of SPARSITIES."""
    return [figures.get(f"{side}/{sparsity}_ms", math.nan) for sparsity in SPARSITIES]


@rc_context(STYLE)
def picture(measured: Measured) -> Figure | None:
    """Both curves, with a line at the time of the whole matrix."""
    if not (figures := dict(measured.get("sparsity", {}))):
        return None
    drawn = Figure(figsize=(7.5, 3.8))
    axes = drawn.subplots()
    percent = [100 * sparsity for sparsity in SPARSITIES]
    names = {"csr": "zeros anywhere (scipy.sparse, CSR)", "compact": "components cut out (dense)"}
    for (side, name), colour in zip(names.items(), COLOURS, strict=False):
        times = curve(figures, side)
        axes.plot(percent, times, "o-", color=colour, clip_on=False, zorder=3)
        if not math.isnan(times[-1]):
            axes.text(101, times[-1], name, color=colour, va="center")
    axes.axhline(curve(figures, "compact")[0], color="#888888", linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set(title=f"ms for {BATCH} rows times a {INPUTS} × {OUTPUTS} matrix, one thread", yscale="log")
    axes.set(xlabel="zeros in the matrix, %", xlim=(0, 100))
    return drawn


def section(measured: Measured) -> str:
    """Both, and from where on random zeros are faster than no zeros."""
    if not (figures := dict(measured.get("sparsity", {}))):
        return ""
    csr, compact = curve(figures, "csr"), curve(figures, "compact")
    rows = [
        [f"{100 * sparsity:g} %", number(theirs), number(ours), number(theirs / ours)]
        for sparsity, theirs, ours in zip(SPARSITIES, csr, compact, strict=True)
    ]
    faster = [f"{100 * sparsity:g} %" for sparsity, time in zip(SPARSITIES, csr, strict=True) if time < compact[0]]
    found = f"from {faster[0]} zeros on" if faster else "at none of these sparsities"
    return part(
        "Scattered zeros against removed components, in milliseconds",
        f"{BATCH} rows times a {INPUTS} × {OUTPUTS} matrix, float32. Both use one thread, as scipy.sparse "
        f"has only one. Scattered zeros are faster than the dense product {found}.",
        f"![Time against sparsity]({PICTURE})",
        table(["zeros", "CSR", "removed", "CSR over removed"], rows),
    )
