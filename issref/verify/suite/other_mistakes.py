"""The known mistakes of ops other than the LSTM, as changes of the inputs or keywords of a right port."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from issref.iss.layout import Params
from issref.ops.gru import GATES
from issref.verify.suite.reference_port import answer

Keywords = Mapping[str, Any]


class Change(NamedTuple):
    """Changes of inputs and keywords; None as a value removes an entry."""

    op: str
    inputs: Callable[[Params], Mapping[str, Any]] = lambda inputs: {}
    keywords: Callable[[Keywords], Mapping[str, Any]] = lambda keywords: {}

    def __call__(self, inputs: Params, keywords: Keywords) -> Params:
        changed = ({**inputs, **self.inputs(inputs)}, {**keywords, **self.keywords(keywords)})
        given, asked = ({name: value for name, value in each.items() if value is not None} for each in changed)
        return answer("", self.op, given, asked)


def _zeros(op: str, *names: str) -> Change:
    """Return a port without some inputs, in all layers or directions."""
    return Change(op, lambda a: {key: 0 * each for key, each in a.items() if key.rpartition("/")[2] in names})


def _no_mask(op: str, *names: str) -> Change:
    return Change(op, lambda a: {name: np.ones_like(a[name]) for name in names if name in a})


def _swapped(a: Params) -> dict[str, np.ndarray]:
    """Exchange the two blocks of columns of every micro-layer."""
    return {
        name: np.roll(values, values.shape[-1] // 2, axis=-1)
        for name, values in a.items()
        if name.startswith(("kernel", "bias"))
    }


def _strength(op: str, factor: Callable[[Keywords], float]) -> Change:
    return Change(op, keywords=lambda k: {"strength": {one: factor(k) * s for one, s in k["strength"].items()}})


def _masks(op: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return Change(op, lambda a: {name: change(m) for name, m in a.items() if name.startswith("masks/")})


def _gru(change: Callable[..., Iterable[np.ndarray]]) -> Change:
    """Return a GRU with other blocks of columns: change(r, z, n) of the kernel, change(r, z, n, c) of the bias."""

    def inputs(a: Params) -> dict[str, np.ndarray]:
        size = a["h0"].shape[1]
        cuts = {name: range(size, a[name].shape[-1], size) for name in ("kernel", "bias")}
        return {
            name: np.concatenate([*change(*np.split(a[name], cut, axis=-1))], axis=-1)
            for name, cut in cuts.items()
        }

    return Change("gru", inputs)


def _biases(change: Callable[[list[np.ndarray]], Iterable[np.ndarray]], **keywords) -> Change:
    """Return a GRU with other biases, if it has four: change([r, z, n, c]); and other keywords."""

    def inputs(a: Params) -> dict[str, np.ndarray]:
        parts = np.split(a["bias"], len(a["bias"]) // a["h0"].shape[1])
        return {"bias": np.concatenate([*change(parts)])}

    return Change("gru", inputs, lambda k: keywords)


def _gru_orders() -> dict[str, Change]:
    """Return the mistakes of the five wrong gate orders; a second bias of the candidate stays the last."""
    table: dict[str, Change] = {}
    frameworks: dict[tuple[str, ...], str] = {("update", "reset", "candidate"): " (Keras, ONNX)"}
    for order in list(itertools.permutations(GATES))[1:]:
        read = [order.index(gate) for gate in GATES]
        table[f"gates in the order {', '.join(order)}{frameworks.get(order, '')}"] = _gru(
            lambda *parts, k=read: (*(parts[each] for each in k), *parts[3:])
        )
    return table


OTHERS: dict[str, dict[str, Change]] = {
    "bidirectional": {
        "lengths ignored": Change("bidirectional", lambda a: {"lengths": np.full(a["x"].shape[1], len(a["x"]))}),
        "first states left out": _zeros("bidirectional", "h0", "c0"),
    },
    "stacked": {
        "no mask on the input": _no_mask("stacked", "mask0"),
        "no mask between the layers": _no_mask("stacked", "mask1"),
        "no mask on the output": _no_mask("stacked", "mask2"),
        "first states left out": _zeros("stacked", "h0", "c0"),
    },
    "gru": {
        **_gru_orders(),
        "reset before the product": _biases(lambda b: (*b[:2], np.sum(b[2:], axis=0)), reset_after=False),
        "reset after the product": _biases(lambda b: (*b[:3], *(b[3:] or [0 * b[0]])), reset_after=True),
        "update gate and its complement exchanged": _gru(lambda r, z, *n: (r, -z, *n)),
        "the product's bias left out": _biases(lambda b: (*b[:3], *(0 * one for one in b[3:]))),
        "the product's bias outside the reset": _biases(
            lambda b: (*b[:2], np.sum(b[2:], axis=0), *(0 * c for c in b[3:]))
        ),
        "both biases of the candidate inside the reset": _biases(
            lambda b: (*b[:2], 0 * b[2], b[2] + b[3]) if b[3:] else b
        ),
        "biases left out": _biases(lambda b: (0 * one for one in b)),
        "biases of the candidate exchanged": _biases(lambda b: (*b[:2], *b[:1:-1])),
        "first state left out": _zeros("gru", "h0"),
        "gradient arriving at h left out": _zeros("gru", "dh"),
        "lengths ignored": Change("gru", lambda a: {"lengths": None}),
        "reverse ignored": Change("gru", keywords=lambda k: {"reverse": False}),
    },
    "rhn": {
        "first state left out": _zeros("rhn", "s0"),
        "input mask left out": _no_mask("rhn", "input_mask"),
        "state mask left out": _no_mask("rhn", "state_mask"),
        "gradient arriving at s left out": _zeros("rhn", "ds"),
        "candidate and transform exchanged": Change("rhn", _swapped),
    },
    "penalty": {
        "self weights counted once": Change("penalty", keywords=lambda k: {"self_weight": 1}),
        "self weights counted twice": Change("penalty", keywords=lambda k: {"self_weight": 2}),
        "no smoothing": Change("penalty", keywords=lambda k: {"smoothing": 0.0}),
        "smoothing of 1e-8 in every norm": Change("penalty", keywords=lambda k: {"smoothing": 1e-8}),
    },
    "gap": {"share transposed": Change("gap", lambda a: {"share": a["share"].T.copy()})},
    "compact": {"readers ignored": Change("compact", keywords=lambda k: {"readers": None})},
    "train": {
        "masks left out": _masks("train", np.ones_like),
        "the first window's masks for all": _masks("train", lambda m: np.broadcast_to(m[:1], m.shape)),
        "strength without the rate": _strength("train", lambda k: 1 / k["rate"] if k["method"] == "prox" else 1.0),
        "half the strength": _strength("train", lambda k: 0.5 if k["method"] == "prox" else 1.0),
        "no clip": Change("train", keywords=lambda k: {"clip": 1e30}),
    },
}
