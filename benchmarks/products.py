"""The matrix products of a training step, and nothing else: the least a step can take with a given BLAS."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from benchmarks.timing import THREADS, clocked
from issref.iss.layout import Layout
from issref.models.ptb_lstm import EMBEDDING

Call = Callable[[], None]


class Product(NamedTuple):
    """One product of a step, done `times` times; x (rows, inputs), kernel W (inputs, outputs), y (rows, outputs).

    kind: "forward" is y = x W, "input" dx = dy W^T, "kernel" dW = x^T dy. `part` names the kernel, and of an
    LSTM's which of its two blocks of rows.
    """

    part: str
    kind: str
    rows: int
    inputs: int
    outputs: int
    times: int

    @property
    def multiply_adds(self) -> int:
        """Of all `times` together."""
        return self.rows * self.inputs * self.outputs * self.times


def matrix_products(layout: Layout, steps: int, batch: int) -> list[Product]:
    """The products of forward and backward of every layer of the LSTM language model, over one window.

    What reads a layer's own last output goes step by step, there and back; the rest, and the gradients of all
    kernels, are one product over all steps.
    """
    found, words = [], steps * batch
    for array in layout.axes:
        if not array.endswith("/kernel") or array == EMBEDDING:
            continue
        outputs = layout.shape(array)[1]
        for space, start, stop, _ in layout.segments(array, 0):
            recurrent = array == f"{space}/kernel"
            part = f"{array} ({'recurrent' if recurrent else 'input'})" if array.startswith("lstm") else array
            rows, times = (batch, steps) if recurrent else (words, 1)
            found += [
                Product(part, "forward", rows, stop - start, outputs, times),
                Product(part, "input", rows, stop - start, outputs, times),
                Product(part, "kernel", words, stop - start, outputs, 1),
            ]
    return found


def prepared(products: Iterable[Product], dtype=np.float32) -> list[Call]:
    """Each product as a call of np.matmul into an array made before; a kernel's three products share it."""
    rng, kernels = np.random.default_rng(0), {}

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32).astype(dtype)

    def call(product: Product) -> Call:
        part, kind, rows, inputs, outputs, times = product
        if part not in kernels:
            kernels[part] = normal(inputs, outputs)
        match kind:
            case "forward":
                left, right = normal(rows, inputs), kernels[part]
            case "input":
                left, right = normal(rows, outputs), kernels[part].T
            case _:
                left, right = normal(rows, inputs).T, normal(rows, outputs)
        result = np.empty((len(left), right.shape[1]), dtype)

        def multiply():
            for _ in range(times):
                np.matmul(left, right, out=result)

        return multiply

    return [call(product) for product in products]


def multiplier(products: Iterable[Product], dtype=np.float32) -> tuple[Call, list[int]]:
    """All products one after another, each with the number of threads that is best for it; and these numbers."""
    calls, controller = prepared(products, dtype), ThreadpoolController()

    def limited(threads: int):
        return controller.limit(limits=threads, user_api="blas")

    def seconds(call: Call, threads: int) -> float:
        with limited(threads):
            first = clocked(call)
            return min(clocked(call) for _ in range(max(3, min(20, round(0.1 / first)))))

    best = [min(range(1, THREADS + 1), key=lambda threads: seconds(call, threads)) for call in calls]

    def multiply():
        for call, threads in zip(calls, best, strict=True):
            with limited(threads):
                call()

    return multiply, best
