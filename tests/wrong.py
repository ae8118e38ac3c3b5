"""Wrong implementations of issref by name, each with one change; `test_mutations` checks that they are caught.

A change concerns the inputs, keywords or outputs of an op, a line of its source, or one operator of a kernel.
"""

import ast
import copy
import functools
import inspect
import itertools
import sys
import textwrap
from collections.abc import Callable
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from issref import kernels
from issref.iss import compact, groups, penalty, prox
from issref.iss.layout import Layout
from issref.kernels import reference
from issref.models import ptb_rhn
from issref.ops import basic, losses, lstm, rhn
from issref.training import optimizers, updates
from issref.verify.suite import reference_port
from issref.verify.suite.mistakes import MISTAKES

GATES = ("input", "candidate", "forget", "output")


class Mutant(NamedTuple):
    """A port, the patches of issref while it runs, the ops whose cases must catch it, and its label.

    The label is the cause, `known` or else the name, and `first`, a pattern of the first output that is wrong.
    """

    ops: str
    port: Callable = reference_port.answer
    patches: tuple = ()
    known: str = ""  # the mistake or the pattern that the diagnosis must name
    first: str = ""


# ---------------------------------------------------------------- ways to be wrong


KERNELS = [name for name, value in vars(kernels).items() if hasattr(value, "__wrapped__")]


def change_inputs(ops, change, known=""):
    """Change inputs: change(inputs) -> some inputs."""
    return Mutant(ops, lambda case, op, a, k: reference_port.answer(case, op, {**a, **change(a)}, k), known=known)


def change_keywords(ops, change, known=""):
    """Change keywords: change(keywords) -> some keywords."""
    return Mutant(ops, lambda case, op, a, k: reference_port.answer(case, op, a, {**k, **change(k)}), known=known)


def change_outputs(ops, change, known=""):
    """Change outputs: change(outputs, inputs, keywords) -> some outputs."""

    def port(case, op, a, k):
        outputs = reference_port.answer(case, op, a, k)
        return {**outputs, **change(outputs, a, k)}

    return Mutant(ops, port, known=known)


def replace(ops, module, name, function):
    """Replace a function of issref."""
    return Mutant(ops, patches=((module, name, function),))


def edit(ops, module, name, *pairs, known="", **names):
    """Replace parts of the source of a function of issref: old, new, old, new, ..."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(getattr(module, name))))
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        assert old in source, f"{name}: expected the text {old!r}"
        source = source.replace(old, new)
    return Mutant(ops, patches=((module, name, compiled(module, name, source, **names)),), known=known)


def edits(ops, module, name, table, **names):
    """Return a mutant for each entry of {mutant: (old, new, ...)}."""
    return {mutant: edit(ops, module, name, *pairs, **names) for mutant, pairs in table.items()}


def compiled(module, name, source, **names):
    namespace = {**vars(module), **names}
    exec(compile(source, f"<{name}>", "exec"), namespace)
    return namespace[name]


@contextmanager
def applied(patches):
    """Apply the patches wherever a module of issref holds the function, for a kernel in both twins.

    If one kernel is patched, all run as their NumPy twins, because one may call another.
    """
    undo, changed = [], {name: function for module, name, function in patches if module is reference}
    plain = {name: getattr(reference, name) for name in KERNELS} | changed if changed else {}
    originals = [(getattr(kernels, name), function) for name, function in plain.items()]
    originals += [(getattr(reference, name), function) for name, function in changed.items()]
    originals += [
        (getattr(module, name), function) for module, name, function in patches if module is not reference
    ]
    for original, function in originals:
        modules = [vars(one) for key, one in sys.modules.items() if key.partition(".")[0] == "issref"]
        for place in (*modules, reference_port.OPS):
            for key in [key for key, value in place.items() if value is original]:
                undo.append((place, key, original))
                place[key] = function
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        for place, key, original in undo:
            place[key] = original


# ---------------------------------------------------------------- known mistakes, made of ops.lstm


def blocks(values, order):
    """Return the four blocks of columns in another order."""
    return values.reshape(*values.shape[:-1], 4, -1)[..., order, :].reshape(values.shape)


def exchanged(values):
    """Exchange the first two axes; a port can only do so if they have the same length."""
    if values.shape[0] != values.shape[1]:
        raise ValueError("axes of two lengths")
    return values.swapaxes(0, 1)


def gate_by_gate(kernel, start, stop):
    kernel = kernel.copy()
    for gate in np.split(kernel[start:stop], 4, axis=1):
        gate[...] = exchanged(gate.copy())
    return kernel


def batch_first(case, op, a, k):
    outputs = reference_port.answer(case, op, {**a, "x": exchanged(a["x"]), "dhidden": exchanged(a["dhidden"])}, k)
    return {**outputs, "hidden": exchanged(outputs["hidden"]), "dx": exchanged(outputs["dx"])}


def zeros(*names):
    return lambda a: {name: np.zeros_like(a[name]) for name in names}


def hard(slope):
    return {"hard": lambda z: np.minimum(1, np.maximum(0, 0.5 + slope * z))}


def wrong_orders():
    for order in list(itertools.permutations(GATES))[1:]:
        k = [order.index(gate) for gate in GATES]
        (name,) = (name for name in MISTAKES if name.startswith(f"gates read in the order {', '.join(order)}"))
        yield name, lambda a, k=k: {"kernel": blocks(a["kernel"], k), "bias": blocks(a["bias"], k)}


LSTM_INPUTS = {
    **dict(wrong_orders()),
    "recurrent kernels transposed": lambda a: {"kernel": gate_by_gate(a["kernel"], a["x"].shape[2], None)},
    "input kernels transposed": lambda a: {"kernel": gate_by_gate(a["kernel"], 0, a["x"].shape[2])},
    "kernel reshaped where it should be transposed": lambda a: {
        "kernel": a["kernel"].ravel(order="F").reshape(a["kernel"].shape)
    },
    "rows of the state read before rows of the input": lambda a: {
        "kernel": np.concatenate((a["kernel"][a["h0"].shape[1] :], a["kernel"][: a["h0"].shape[1]]))
    },
    "bias left out": zeros("bias"),
    "bias added twice": lambda a: {"bias": a["bias"] + a["bias"]},
    "bias halved": lambda a: {"bias": 0.5 * a["bias"]},
    "the input gate's bias in every gate": lambda a: {"bias": blocks(a["bias"], [0, 0, 0, 0])},
    "h0 and c0 exchanged": lambda a: {"h0": a["c0"], "c0": a["h0"]},
    "h0 left out": zeros("h0"),
    "c0 left out": zeros("c0"),
    "first state left out": zeros("h0", "c0"),
    "gradient arriving at h left out": zeros("dh"),
    "gradient arriving at c left out": zeros("dc"),
    "gradients arriving at h and c exchanged": lambda a: {"dh": a["dc"], "dc": a["dh"]},
}
LSTM_KEYWORDS = {
    "forget_bias left out": lambda k: {"forget_bias": 0.0},
    "forget_bias added twice": lambda k: {"forget_bias": 2 * k.get("forget_bias", 0.0)},
    "forget_bias 1 where none is asked for": lambda k: {"forget_bias": 1.0},
    "forget_bias subtracted": lambda k: {"forget_bias": -k.get("forget_bias", 0.0)},
    "reverse ignored": lambda k: {"reverse": False},
    "time reversed where it should not be": lambda k: {"reverse": not k.get("reverse", False)},
}
LSTM_OUTPUTS = {
    "h and c returned exchanged": lambda o, a, k: {"h": o["c"], "c": o["h"]},
    "the first state's gradients exchanged": lambda o, a, k: {"dh0": o["dc0"], "dc0": o["dh0"]},
    "outputs of reverse left in reversed order": lambda o, a, k: {
        "hidden": o["hidden"][:: -1 if k.get("reverse") else 1]
    },
    "dbias counted twice": lambda o, a, k: {"dbias": 2 * o["dbias"]},
    "weight gradients averaged over the batch": lambda o, a, k: {
        name: o[name] / a["x"].shape[1] for name in ("dkernel", "dbias")
    },
}
SIGMOIDS = "sigmoid(i), np.tanh(g), sigmoid(f), sigmoid(o)"
LSTM_CELL = {
    "tanh of the cell left out": ("o * np.tanh(cell)", "o * cell"),
    "sigmoid of the cell for tanh": ("o * np.tanh(cell)", "o * sigmoid(cell)"),
    "tanh of the candidate left out": ("np.tanh(g)", "g"),
    "sigmoid of the candidate for tanh": ("np.tanh(g)", "sigmoid(g)"),
    "tanh for sigmoid in the gates": (SIGMOIDS, SIGMOIDS.replace("sigmoid", "np.tanh")),
    "hard sigmoid 0.2 z + 0.5 in the gates": (SIGMOIDS, SIGMOIDS.replace("sigmoid", "hard"), hard(0.2)),
    "hard sigmoid z / 6 + 0.5 in the gates": (SIGMOIDS, SIGMOIDS.replace("sigmoid", "hard"), hard(1 / 6)),
    "forget gate is 1 - input gate": ("f * cell", "(1 - i) * cell"),
    "forget gate left out": ("f * cell", "cell"),
    "output from the cell of the step before": (
        "cell = f",
        "old, cell = cell, f",
        "np.tanh(cell)",
        "np.tanh(old)",
    ),
}
LSTM_BACKWARD = {
    "slope of tanh(c) left out of the gradient": ("dhidden * o * (1 - squashed**2)", "dhidden * o"),
    "gradient not carried through c": ("dcell * f\n", "0 * dcell\n"),
}
LSTM_STEP = {
    **{
        f"forget_bias added to the {gate} gate": (
            "[0, 0, forget_bias, 0]", f"[{', '.join('forget_bias' if one == gate else '0' for one in GATES)}]"
        )
        for gate in GATES if gate != "forget"
    },
    "lengths ignored": ("if lengths is None else", "if True else"),
}  # fmt: skip
LSTM_FORWARD = {
    "hidden[t] is the output of the step before": (
        "np.where(valid, hidden[t], 0)", "np.where(valid, h_before[t], 0)"
    ),
    "outputs beyond the end repeated, not zero": (
        "np.where(valid, hidden[t], 0)", "np.where(valid, hidden[t], h_before[t])"
    ),
}  # fmt: skip
LSTM_BACKWARD_STEP = {"gradient not carried through h": ("dgates[t] @ weights.T", "0 * dh")}


def edit_lstm(module, name, mistake, pairs):
    names = next((one for one in pairs if isinstance(one, dict)), {})
    return edit("lstm", module, name, *(one for one in pairs if one is not names), known=mistake, **names)


LSTMS = {
    "x read as (B, T, D)": Mutant("lstm", batch_first, known="x read as (B, T, D)"),
    **{name: change_inputs("lstm", change, name) for name, change in LSTM_INPUTS.items()},
    **{name: change_keywords("lstm", change, name) for name, change in LSTM_KEYWORDS.items()},
    **{name: change_outputs("lstm", change, name) for name, change in LSTM_OUTPUTS.items()},
    **{name: edit_lstm(reference, "lstm_cell", name, pairs) for name, pairs in LSTM_CELL.items()},
    **{name: edit_lstm(reference, "lstm_cell_backward", name, pairs) for name, pairs in LSTM_BACKWARD.items()},
    **{name: edit_lstm(reference, "lstm_forward", name, pairs) for name, pairs in LSTM_FORWARD.items()},
    **{name: edit_lstm(reference, "lstm_backward", name, pairs) for name, pairs in LSTM_BACKWARD_STEP.items()},
    **{name: edit_lstm(lstm, "lstm", name, pairs) for name, pairs in LSTM_STEP.items()},
}
PLAIN = {  # all known mistakes as ports: each must be caught and named
    f"plain LSTM: {name}": Mutant("lstm", lambda case, op, a, k, wrong=wrong: wrong(a, k), known=name)
    for name, wrong in MISTAKES.items()
}

# ---------------------------------------------------------------- sequences, masks, losses


def padding_first(o, a, k):
    if "lengths" not in a or not k.get("reverse"):
        return {}
    return reference_port.answer("", "lstm", {**a, "x": a["x"][::-1], "dhidden": a["dhidden"][::-1]}, {})


SEQUENCES = {
    **edits("lstm", reference, "lstm_backward", {
        "lstm: gradients beyond the end leak": ("np.where(valid, dpreactivation, 0)", "dpreactivation"),
    }),
    **edits("lstm", reference, "lstm_forward", {
        "lstm: the state goes on beyond the end": (
            "np.where(valid, hidden[t], h), np.where(valid, c_after[t], c)", "hidden[t], c_after[t]"
        ),
    }),
    **edits("lstm", lstm, "lstm", {
        "lstm: dkernel from the outputs of other steps": ("h_before.reshape", "hidden.reshape"),
    }),
    "lstm: reverse starts in the padding": change_outputs("lstm", padding_first),
    **edits("bidirectional", reference_port, "_bidirectional", {
        "bidirectional: both forward": ('direction == "bw"', "False"),
        "bidirectional: directions exchanged": ('direction == "bw"', 'direction == "fw"'),
        "bidirectional: dx of one direction": ("dx[0] + dx[1]", "dx[0]"),
        "bidirectional: lengths left out": (', "lengths": given["lengths"]', ""),
        "bidirectional: outputs exchanged": ("np.concatenate(hidden", "np.concatenate(hidden[::-1]"),
    }),
    "stacked: no mask on the input": change_inputs("stacked", lambda a: {"mask0": np.ones_like(a["mask0"])}),
    "stacked: no mask between the layers": change_inputs("stacked", lambda a: {"mask1": np.ones_like(a["mask1"])}),
    "stacked: no mask on the output": change_inputs("stacked", lambda a: {"mask2": np.ones_like(a["mask2"])}),
    "stacked: one mask for all steps": change_inputs(
        "stacked", lambda a: {"mask1": a["mask1"][:1].repeat(3, axis=0)}
    ),
    "stacked: the gradient skips the masks": edit("stacked", reference_port, "_stacked", "back_drop(dx)", "dx"),
    **edits("dropout", basic, "dropout", {
        "dropout: mask left out of the gradient": ("dy if mask is None else dy * mask", "dy"),
        "dropout: kept values not divided by keep": ("else x * mask", "else x * (mask > 0)"),
        "dropout: mask applied twice": ("else x * mask", "else x * mask * mask"),
    }),
    "dropout: the others are dropped": change_inputs("dropout", lambda a: {"mask": a["mask"].max() - a["mask"]}),
    **edits("rhn", reference, "highway_cell", {
        "rhn: gates exchanged": ("h, t = np.split(preactivation", "t, h = np.split(preactivation"),
        "rhn: nothing carried": ("state + t * (h - state)", "t * h"),
        "rhn: all carried": ("state + t * (h - state)", "state + t * h"),
        "rhn: carry and transform exchanged": ("state + t * (h - state)", "h + t * (state - h)"),
    }),
    **edits("rhn", rhn, "rhn", {
        "rhn: the carry takes the dropped state": ("else u, s)", "else u, _dropped(s, state_mask))"),
        "rhn: the input enters no micro-layer but the last": ("if d == 0 else u", "if d == depth - 1 else u"),
        "rhn: the input enters every micro-layer": ("u + entering[t] if d == 0 else u", "u + entering[t]"),
        "rhn: input mask left out": ("_dropped(x, input_mask)", "x"),
        "rhn: state mask in the first micro-layer only": (
            "_dropped(s, state_mask) @", "_dropped(s, state_mask if d == 0 else None) @"
        ),
        "rhn: state mask left out of the gradient": (
            "_dropped(du[d, t] @ from_state[d].T, state_mask)", "du[d, t] @ from_state[d].T"
        ),
        "rhn: state mask left out of dkernel": ("_dropped(before, state_mask)", "before"),
        "rhn: input mask left out of dx": ("x.shape), input_mask)", "x.shape), None)"),
        "rhn: one bias for all micro-layers": ("biases[d]", "biases[0]"),
        "rhn: micro-layers from the last to the first": (
            "in range(depth):\n            before", "in range(depth)[::-1]:\n            before"
        ),
        "rhn: hidden[t] is the state before": ("hidden[t] = s", "hidden[t] = before[0, t]"),
        "rhn: first state left out": ("s0.astype(dtype)", "0 * s0.astype(dtype)"),
        "rhn: the gradient does not take the carry": ("ds = dcarried + ", "ds = 0 * dcarried + "),
        "rhn: the gradient does not take the step before": ("ds = ds + dhidden[t]", "ds = dhidden[t]"),
    }),
    "rhn: state mask left out": change_inputs("rhn", lambda a: {"state_mask": np.ones_like(a["s0"])}),
    "rhn: the gradient arriving at s left out": change_inputs("rhn", zeros("ds")),
    **edits("cross_entropy", losses, "cross_entropy", {
        "cross-entropy: mean over the steps too": ("targets.shape[1]", "targets.size"),
        "cross-entropy: sum over the batch": ("targets.shape[1]", "1"),
        "cross-entropy: mean over the steps, sum over the batch": ("targets.shape[1]", "targets.shape[0]"),
        "cross-entropy: in bits": ("/ batch\n", "/ batch / np.log(2)\n"),
        "cross-entropy: dloss left out": ("dloss / batch", "1 / batch"),
        "cross-entropy: gradient of the sum": ("dloss / batch", "dloss"),
    }),
    "cross-entropy: the largest logit not subtracted": edit(
        "cross_entropy", reference, "log_sum_exp", "np.real(logits).max", "np.zeros(logits.shape).max"
    ),
    "cross-entropy: gradient without the target": edit(
        "cross_entropy", reference, "softmax_minus_target", "-= scale", "-= 0"
    ),
    **edits("clip", optimizers, "clip_scale", {
        "clip: never idle": ("if norm > most else 1.0", ""),
        "clip: 1e-6 beside the norm": ("most / norm if", "most / (norm + 1e-6) if"),
        "clip: to a norm of 1": ("most / norm if", "1 / norm if"),
    }),
    **edits("clip", optimizers, "global_norm", {
        "clip: the norm's root left out": ("math.sqrt", "float"),
        "clip: the largest array's norm": ("sum(float(", "max(float("),
    }),
    "clip: each array by its own norm": change_outputs(
        "clip", lambda o, a, k: {key: a[key] * min(1, k["most"] / np.linalg.norm(a[key])) for key in a}
    ),
    "clip: by value": change_outputs(
        "clip", lambda o, a, k: {key: np.clip(a[key], -k["most"], k["most"]) for key in a}
    ),
}  # fmt: skip

# ---------------------------------------------------------------- groups, penalty, proximal step


def change_layout(ops, change):
    """Change the layout: change(array, axes) -> axes."""

    def other(keywords):
        changed = {array: change(array, axes) for array, axes in keywords["layout"]["axes"].items()}
        axes = {array: tuple(map(tuple, each)) for array, each in changed.items()}
        return {"layout": {**keywords["layout"], "axes": axes}}

    return change_keywords(ops, other)


def uncounted(which, *, own=True, readers=True):
    """Do not count rows (0) or columns (1) of matrices: `own`, the recurrent ones; `readers`, the others."""

    def change(array, axes):
        if len(axes) != 2:
            return axes
        me = array.removesuffix("/kernel")
        spaces = [f"~{space}" if (own if space == me else readers) else space for space in axes[which]]
        return [spaces if axis == which else axes[axis] for axis in (0, 1)]

    return change


def rows_exchanged(array, axes):
    return [axes[0][::-1], *axes[1:]] if array.endswith("/kernel") else axes


def biases_counted(array, axes):
    return [[space.strip("~") for space in axis] for axis in axes] if array.endswith("/bias") else axes


def first_gate_only(array, axes):
    return axes if len(axes) != 2 else [axes[0], [axes[1][0], *(f"~{space}" for space in axes[1][1:])]]


def masks_of(found):
    """Return the weights of each group: [(array, mask), ...]."""
    return [
        [(array, (rows == g)[:, None] | (columns == g)) for array, (rows, columns) in found.ids.items()]
        for g in range(found.count)
    ]


def sizes_of(found):
    return np.array([sum(mask.sum() for _, mask in mine) for mine in masks_of(found)])


def certified(params, after, found):
    alive = np.concatenate(list(groups.alive(after, found).values()))
    return {**params, **after}, prox.Certificate(0.0, 0.0, 0, ~alive, np.zeros(0))


def scaled(params, found, table):
    after = {array: reference.scale_by_pair(params[array], *ids, table) for array, ids in found.ids.items()}
    return certified(params, after, found)


def in_turn(order):
    """Block soft-thresholding of one group after another."""

    def wrong(params, found, strength, **_):
        after = {array: params[array].copy() for array in found.ids}
        strengths = np.broadcast_to(strength, found.count)
        for mine, own in list(zip(masks_of(found), strengths, strict=True))[::order]:
            norm = np.sqrt(sum(np.sum(after[array][mask] ** 2) for array, mask in mine))
            for array, mask in mine:
                after[array][mask] *= max(0, 1 - own / norm) if norm else 0
        return certified(params, after, found)

    return wrong


def at_once(combine, size=lambda found: 1.0):
    """Shrink by the first norms; combine the factors for weights that two groups share."""

    def wrong(params, found, strength, **_):
        keep = np.maximum(0, 1 - strength * size(found) / groups.group_norms(params, found))
        keep = np.append(keep, 1)
        table = combine(keep[:, None], keep)
        np.fill_diagonal(table, keep)
        return scaled(params, found, table)

    return wrong


def cut_off(params, found, strength, **_):
    """Zero groups with a norm up to the strength; keep the others."""
    dead = np.append(groups.group_norms(params, found) <= strength, False)
    return scaled(params, found, np.where(dead[:, None] | dead, 0.0, 1.0))


def by_weight(params, found, strength, **_):
    after = {a: np.sign(params[a]) * np.maximum(0, abs(params[a]) - np.max(strength)) for a in found.ids}
    return certified(params, after, found)


def after_prox(change):
    right = prox.prox

    def wrong(params, found, strength, **_):
        after, certificate = right(params, found, strength)
        return {array: change(params[array], after[array]) for array in params}, certificate

    return wrong


PROX = {
    "prox: one group after another": in_turn(1),
    "prox: one group after another, from the last": in_turn(-1),
    "prox: product of shrinkages": at_once(np.multiply),
    "prox: the smaller of the shrinkages": at_once(np.minimum),
    "prox: the larger of the shrinkages": at_once(np.maximum),
    "prox: mean of shrinkages": at_once(lambda g, h: (g + h) / 2),
    "prox: shrinkages added up": at_once(lambda g, h: np.maximum(0, g + h - 1)),
    "prox: strengths scaled by the root of the size": at_once(np.multiply, lambda found: sizes_of(found) ** 0.5),
    "prox: weight by weight": by_weight,
    "prox: groups cut off, the others not shrunk": cut_off,
    "prox: dead groups nearly zero": after_prox(lambda v, w: np.where((w == 0) & (v != 0), 1e-9, w)),
    "prox: dead groups zeroed, the others not shrunk": after_prox(lambda v, w: np.where(w == 0, w, v)),
    "prox: nothing is done": after_prox(lambda v, w: v),
}
GROUPED = "norms penalty prox gap train compact"
PENALTY = {
    "groups: recurrent rows left out": change_layout(GROUPED, uncounted(0, readers=False)),
    "groups: rows that read left out": change_layout(GROUPED, uncounted(0, own=False)),
    "groups: columns left out": change_layout(GROUPED, uncounted(1)),
    "groups: columns of one gate only": change_layout(GROUPED, first_gate_only),
    "groups: biases counted": change_layout(GROUPED, biases_counted),
    "groups: rows of state and input exchanged": change_layout(GROUPED, rows_exchanged),
    **edits("norms", groups, "group_norms", {
        "norms: squares, no root": ("np.sqrt", "np.array"),
        "norms: self weights twice": ("(table))", "(table, 2))"),
        "norms: self weights left out": ("(table))", "(table, 0))"),
    }),
    "penalty: self weights once for twice": change_keywords("penalty", lambda k: {"self_weight": 1}),
    "penalty: self weights twice for once": change_keywords("penalty", lambda k: {"self_weight": 2}),
    "penalty: smoothing left out": change_keywords("penalty", lambda k: {"smoothing": 0.0}),
    "penalty: smoothing always": change_keywords("penalty", lambda k: {"smoothing": 1e-8}),
    **edits("penalty", penalty, "penalty", {
        "penalty: smoothing outside the root": ("+ smoothing / base / base)", ") + smoothing"),
        "penalty: smoothing squared": ("+ smoothing / base", "+ smoothing**2 / base"),
        "penalty: squared norms": ("strengths @ norms", "strengths @ norms**2"),
        "penalty: norms scaled by the root of the size": (
            "strengths @ norms", "strengths @ (norms * sizes_of(groups) ** 0.5)"
        ),
        "penalty: one strength for all": ("strengths @ norms", "strengths[0] * norms.sum()"),
        "penalty: 0 / 0 at a group of zeros": (
            "np.divide(strengths, norms, out=np.zeros_like(norms), where=norms != 0)", "strengths / norms"
        ),
        "penalty: gradient of the row's group only": ("+ per_group", "+ 0 * per_group"),
        "penalty: gradient of the column's group only": ("per_group[:, None] +", "0 * per_group[:, None] +"),
        "penalty: gradients of both groups multiplied": ("+ per_group", "* per_group"),
        "penalty: gradient of self weights once": ("self_weight * per_group)", "per_group)"),
        "penalty: gradient of self weights twice": ("self_weight * per_group)", "2 * per_group)"),
        "penalty: gradient multiplied by the norm": ("np.divide(strengths", "np.multiply(strengths"),
        "penalty: gradient without the strength": ("np.divide(strengths", "np.divide(1"),
    }, sizes_of=sizes_of),
    **{name: replace("prox train", prox, "prox", function) for name, function in PROX.items()},
    "prox: half the strength": edit(
        "prox train", prox, "prox", "strengths_of(strength, groups)", "strengths_of(strength / 2, groups)"
    ),
    "prox: alive told of the weights before": change_outputs(
        "prox", lambda o, a, k: {key: np.ones_like(o[key]) for key in o if key.startswith("alive/")}
    ),
    "prox: objective without the half": edit("prox", reference_port, "_prox", "moved / 2", "moved"),
    **edits("gap", reference, "duality_gap", {
        "gap: complementarity left out": ("gap = complementarity +", "gap ="),
        "gap: squares of every pair twice": ("(1 - factor) ** 2) / 4", "(1 - factor) ** 2) / 2"),
        "gap: one group's share taken only": ("1 - share - share.T", "1 - share"),
    }),
    "gap: shares transposed": change_inputs("gap", lambda a: {"share": a["share"].T.copy()}),
    "gap: the objective for the gap": change_outputs("gap", lambda o, a, k: {"gap": o["objective"]}),
}  # fmt: skip

# ---------------------------------------------------------------- training steps


def prox_first(descend):
    def update(params, grads, rate, lasso, state):
        params, _ = prox.prox(params, lasso.groups, rate * lasso.strengths)
        return descend(params, grads, rate, state), state, updates.NO_GROUPS

    return update


def clip_by_the_sum(descend):
    def update(params, grads, rate, lasso, state):
        summed = with_penalty(params, grads, lasso)
        norm = optimizers.global_norm(summed)
        after = descend(params, summed, rate, state)
        step = optimizers.global_norm({array: after[array] - params[array] for array in after}) / norm
        params, _ = prox.prox(optimizers.sgd(params, grads, step), lasso.groups, rate * lasso.strengths)
        return params, state, updates.NO_GROUPS

    return update


def subgradient(descend):
    def update(params, grads, rate, lasso, state):
        return descend(params, with_penalty(params, grads, lasso), rate, state), state, updates.NO_GROUPS

    return update


def with_penalty(params, grads, lasso):
    _, penalty_grads = penalty.penalty(params, *lasso)
    return {array: gradient + penalty_grads.get(array, 0) for array, gradient in grads.items()}


def penalty_after_clip(descend, threshold, thresholded):
    def update(params, grads, rate, lasso, state):
        _, penalty_grads = penalty.penalty(params, *lasso, self_weight=2, smoothing=1e-8)
        params = descend(params, grads, rate, state)
        params = {array: values - rate * penalty_grads.get(array, 0) for array, values in params.items()}
        return compact.zero_small_weights(params, threshold), state, updates.NO_GROUPS

    return update


def threshold_first(descend, threshold, thresholded):
    right = RELEASED(descend, 0.0, thresholded)
    return lambda params, *arguments: right(compact.zero_small_weights(params, threshold), *arguments)


def threshold_by_group(descend, threshold, thresholded):
    right = RELEASED(descend, 0.0, thresholded)

    def update(params, grads, rate, lasso, state):
        params, *rest = right(params, grads, rate, lasso, state)
        return cut_off(params, lasso.groups, threshold)[0], *rest

    return update


RELEASED = updates.released_update
TRAINING = {
    **edits("train", reference_port, "_train", {
        "train: the state is not carried": ("(loss, state), backward", "(loss, _), backward"),
        "train: no masks": ("masks=drops", "masks=None"),
        "train: targets one step off": ("targets=targets", "targets=np.roll(targets, 1, axis=0)"),
    }),
    **edits("train", reference, "add_rows", {
        "train: gradients of a repeated word overwrite": ("np.add.at(table, ids, rows)", "table[ids] = rows"),
        "train: the first gradient of a repeated word": (
            "np.add.at(table, ids, rows)",
            "first = np.unique(ids, return_index=True)[1]; table[ids[first]] = rows[first]",
        ),
    }),
    "train: no clip": edit("train", updates, "clipped_sgd", "clip_scale(global_norm(grads), clip)", "1"),
    "train: uphill": edit("train", reference, "descend", "gradient *= -rate", "gradient *= rate"),
    "train: mean over the steps": edit("train", losses, "cross_entropy", "targets.shape[1]", "targets.size"),
    "train: the softmax's gradient does not reach the tied embedding": edit(
        "train", ptb_rhn, "_network", "+= dkernel.T", "+= 0 * dkernel.T"
    ),
    "train: word masks by place, not by word": edit(
        "train", ptb_rhn, "by_type", "np.take_along_axis(noise, first, axis=0)", "noise"
    ),
    **edits("train", updates, "prox_update", {
        "prox step: strength without the rate": ("rate * strengths", "strengths"),
        "prox step: strength times the scale of the clip": (
            "params = descend", "norm, before = global_norm(grads), params\n        params = descend",
            "params, certificate", "moved = {array: params[array] - before[array] for array in params}\n"
            "        step = global_norm(moved) / norm\n        params, certificate",
            "rate * strengths", "step * strengths",
        ),
        "prox step: no prox": ("rate * strengths", "0 * strengths"),
    }),
    "prox step: before the gradient step": replace("train", updates, "prox_update", prox_first),
    "prox step: clip by the sum with the penalty": replace("train", updates, "prox_update", clip_by_the_sum),
    "prox step: a subgradient step": replace("train", updates, "prox_update", subgradient),
    **edits("train", updates, "released_update", {
        "released step: self weights once": ("self_weight=2, ", ""),
        "released step: smoothing left out": (", smoothing=1e-8", ""),
        "released step: no penalty": ("+= gradient", "+= 0 * gradient"),
        "released step: penalty subtracted": ("+= gradient", "-= gradient"),
        "released step: biases spared by the threshold": (
            "in thresholded}", 'in thresholded if "bias" not in array}'
        ),
    }),
    "released step: clip before the penalty": replace("train", updates, "released_update", penalty_after_clip),
    "released step: threshold before the step": replace("train", updates, "released_update", threshold_first),
    "released step: threshold by group": replace("train", updates, "released_update", threshold_by_group),
    **edits("train", compact, "zero_small_weights", {
        "released step: no threshold": ("np.abs(values) < threshold", "False"),
        "released step: soft threshold": ("0, values)", "0, values - threshold * np.sign(values))"),
        "released step: threshold without the absolute value": ("np.abs(values) <", "values <"),
    }),
}  # fmt: skip

# ---------------------------------------------------------------- compaction

COMPACT = compact.compact


def cut(choose):
    """Choose other components: choose(alive) -> alive."""

    def wrong(params, layout, alive):
        return COMPACT(params, layout, {space: choose(mask) for space, mask in alive.items()})

    return replace("compact", compact, "compact", wrong)


def cut_by(change):
    """Cut along another layout: change(array, axes, shape) -> axes, where "whole 7" is not cut."""

    def wrong(params, layout, alive):
        axes = {array: change(array, axes, layout.shape(array)) for array, axes in layout.axes.items()}
        whole = {f"whole {length}": length for length in range(40)}
        return COMPACT(params, Layout(axes, {**layout.sizes, **whole}), alive)

    return replace("compact", compact, "compact", wrong)


def uncut(where, which):
    def change(array, axes, shape):
        here = [(array, axis) == (where, which) for axis in range(len(axes))]
        return tuple((f"whole {shape[axis]}",) if here[axis] else axes[axis] for axis in range(len(axes)))

    return cut_by(change)


def out_of_step(o, a, k):
    """Keep the neighbours of the kept units in the forget gate."""
    living = o["alive/lstm0"]
    columns = np.concatenate((living, living, np.roll(living, 1), living))
    rows = np.append(np.ones(3, bool), living)
    return {"lstm0/kernel": a["lstm0/kernel"][np.ix_(rows, columns)], "lstm0/bias": a["lstm0/bias"][columns]}


def turned_around(o, a, k):
    """Put the units of lstm0 in another order than their readers."""
    columns = np.arange(o["lstm0/bias"].size).reshape(4, -1)[:, ::-1].ravel()
    rows = np.append(np.arange(3), np.arange(len(o["lstm0/kernel"]) - 1, 2, -1))
    return {"lstm0/kernel": o["lstm0/kernel"][np.ix_(rows, columns)], "lstm0/bias": o["lstm0/bias"][columns]}


def of_stack(change):
    return change_outputs("compact", lambda o, a, k: change(o, a, k) if "lstm0/kernel" in a else {})


def judged_by(*readers):
    return change_keywords("compact", lambda k: {"readers": list(readers) or None} if "readers" in k else {})


COMPACTION = {
    "compact: the first units instead of the living": cut(lambda alive: np.sort(alive)[::-1]),
    "compact: the last units instead of the living": cut(np.sort),
    "compact: the dead instead of the living": cut(np.logical_not),
    "compact: one unit off": cut(lambda alive: np.roll(alive, 1)),
    "compact: nothing is cut": cut(np.ones_like),
    "compact: rows of state and input exchanged": cut_by(lambda array, axes, _: rows_exchanged(array, axes)),
    "compact: gates out of step": of_stack(out_of_step),
    "compact: units in another order than their readers": of_stack(turned_around),
    "compact: bias of one gate for all": of_stack(
        lambda o, a, k: {"lstm0/bias": blocks(o["lstm0/bias"], [0, 0, 0, 0])}
    ),
    "compact: states exchanged": of_stack(lambda o, a, k: {"lstm0/h": o["lstm0/c"], "lstm0/c": o["lstm0/h"]}),
    **{
        f"compact: {array} not cut along axis {axis}": uncut(array, axis)
        for array, axis in (
            ("lstm0/kernel", 0), ("lstm0/kernel", 1), ("lstm0/bias", 0), ("lstm1/kernel", 0),
            ("softmax/kernel", 0),
            ("lstm0/h", 1), ("lstm1/c", 1), ("mask", 2),
            ("embed/kernel", 1), ("micro0/kernel", 0), ("micro1/bias", 0),
        )
    },
    "alive: by the whole group where readers are asked": judged_by(),
    "alive: by the columns": judged_by(["lstm*/kernel", 1]),
    "alive: by the last reader only": judged_by(["softmax/kernel", 0]),
    "alive: by the biases too": change_layout("compact", biases_counted),
}  # fmt: skip

# ---------------------------------------------------------------- every operator of the cells

OPERATORS = (ast.Add, ast.Sub, ast.Mult)


def changes(node):
    """Yield replacements of a node: another of + - *, one operand alone, 0 for 1, tanh for sigmoid."""
    if isinstance(node, ast.BinOp):
        yield from (node.left, node.right)
        if isinstance(node.op, OPERATORS):
            others = (operator for operator in OPERATORS if not isinstance(node.op, operator))
            yield from (ast.BinOp(node.left, operator(), node.right) for operator in others)
    if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value in (0, 1):
        yield ast.Constant(1 - node.value)
    if isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in ("np.tanh", "sigmoid"):
        name = ast.parse("np.tanh" if called == "sigmoid" else "sigmoid", mode="eval").body
        yield ast.Call(name, node.args, node.keywords)


class Put(ast.NodeTransformer):
    """Replace one node by another."""

    def __init__(self, old, new):
        self.old, self.new = old, new

    def visit(self, node):
        return self.new if node is self.old else self.generic_visit(node)


def operators(name, ops):
    """Return every single change in a NumPy kernel, by the changed line."""
    tree, table = ast.parse(inspect.getsource(getattr(reference, name))), {}
    plain = ast.unparse(tree).splitlines()
    for index, node in enumerate(ast.walk(tree)):
        for number in range(len(list(changes(node)))):
            other = copy.deepcopy(tree)
            old = list(ast.walk(other))[index]
            source = ast.unparse(Put(old, list(changes(old))[number]).visit(other))
            lines = (new.strip() for new, was in zip(source.splitlines(), plain, strict=True) if new != was)
            patch = (reference, name, compiled(reference, name, source))
            table[f"{name}: {' '.join(lines)}"] = Mutant(ops, patches=(patch,))
    return table


BY_HAND = LSTMS | SEQUENCES | PENALTY | TRAINING | COMPACTION
CELLS = {
    "lstm_cell": operators("lstm_cell", "lstm"),
    "lstm_cell_backward": operators("lstm_cell_backward", "lstm"),
    "highway_cell": operators("highway_cell", "rhn"),
    "highway_cell_backward": operators("highway_cell_backward", "rhn"),
}
SUITE_1 = BY_HAND | PLAIN | functools.reduce(dict.__or__, CELLS.values())
