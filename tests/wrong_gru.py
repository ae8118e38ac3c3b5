"""Wrong GRUs: what is wrong in the gates, the reset, the biases, the sequence and the gradients.

Each is labelled with the first output that is wrong; one with `known` must be named by the diagnosis.
"""

import numpy as np
from wrong import change_inputs, change_keywords, change_outputs, edit, edits, operators
from wrong_edges import adds_up, factor, goes_on, keeps, label, nan_in, overwrites, pattern, zero

from issref.kernels import reference
from issref.ops import gru


def parts(a, name):
    """The blocks of columns of the kernel or the bias."""
    return np.split(a[name], a[name].shape[-1] // a["h0"].shape[1], axis=-1)


def blocks(change, *names):
    """Return a change of blocks of columns, in the kernel, the bias or both."""
    names = names or ("kernel", "bias")
    return lambda a: {name: np.concatenate([*change(parts(a, name))], axis=-1) for name in names}


def of_bias(change):
    """Change the two biases of the candidate: change(b, c) -> (b, c)."""
    return blocks(lambda b: (*b[:2], *(change(*b[2:]) if b[3:] else b[2:])), "bias")


def turned(start, stop):
    """Transpose the blocks of the kernel in some rows, which a port can only do if they are square."""

    def change(a):
        rows = slice(*(a["x"].shape[2] if one == "D" else one for one in (start, stop)))
        kernel = a["kernel"].copy()
        for block in np.split(kernel[rows], 3, axis=1):
            if block.shape[0] != block.shape[1]:
                raise ValueError("axes of two lengths")
            block[...] = block.T.copy()
        return {"kernel": kernel}

    return change


GATES = {
    "gru: gates in the order update, reset, candidate": change_inputs(
        "gru",
        blocks(lambda b: (b[1], b[0], *b[2:])),
        "gates in the order update, reset, candidate (Keras, ONNX)",
    ),
    "gru: gates in the order candidate, reset, update": change_inputs(
        "gru", blocks(lambda b: (b[1], b[2], b[0], *b[3:])), "gates in the order candidate, reset, update"
    ),
    "gru: gates in the order of Keras in the kernel alone": change_inputs(
        "gru", blocks(lambda b: (b[1], b[0], b[2]), "kernel")
    ),
    "gru: gates in the order of Keras in the bias alone": change_inputs(
        "gru", blocks(lambda b: (b[1], b[0], *b[2:]), "bias")
    ),
    "gru: update gate and its complement exchanged, in the weights": change_inputs(
        "gru", blocks(lambda b: (b[0], -b[1], *b[2:])), "update gate and its complement exchanged"
    ),
    "gru: recurrent kernels transposed": change_inputs("gru", turned("D", None)),
    "gru: input kernels transposed": change_inputs("gru", turned(0, "D")),
    "gru: rows of the state read before rows of the input": change_inputs(
        "gru", lambda a: {"kernel": np.roll(a["kernel"], a["x"].shape[2], axis=0)}
    ),
}
BIASES = {
    "gru: biases left out": change_inputs("gru", lambda a: {"bias": 0 * a["bias"]}, "biases left out"),
    "gru: biases added twice": change_inputs("gru", lambda a: {"bias": 2 * a["bias"]}),
    "gru: the product's bias left out": change_inputs(
        "gru", of_bias(lambda b, c: (b, 0 * c)), "the product's bias left out"
    ),
    "gru: the candidate's own bias left out": change_inputs("gru", of_bias(lambda b, c: (0 * b, c))),
    "gru: the product's bias outside the reset": change_inputs(
        "gru", of_bias(lambda b, c: (b + c, 0 * c)), "the product's bias outside the reset"
    ),
    "gru: both biases of the candidate inside the reset": change_inputs(
        "gru", of_bias(lambda b, c: (0 * b, b + c)), "both biases of the candidate inside the reset"
    ),
    "gru: biases of the candidate exchanged": change_inputs(
        "gru", of_bias(lambda b, c: (c, b)), "biases of the candidate exchanged"
    ),
    "gru: half of the product's bias": change_inputs("gru", of_bias(lambda b, c: (b, 0.5 * c))),
}
SEQUENCE = {
    "gru: first state left out": change_inputs("gru", lambda a: {"h0": 0 * a["h0"]}, "first state left out"),
    "gru: reverse ignored": change_keywords("gru", lambda k: {"reverse": False}, "reverse ignored"),
    "gru: time reversed where it should not be": change_keywords(
        "gru", lambda k: {"reverse": not k.get("reverse", False)}
    ),
    "gru: outputs of reverse left in reversed order": change_outputs(
        "gru", lambda o, a, k: {"hidden": o["hidden"][:: -1 if k.get("reverse") else 1]}
    ),
    "gru: lengths ignored": edit(
        "gru", gru, "gru", "if lengths is None else", "if True else", known="lengths ignored"
    ),
    "gru: update gate and its complement exchanged": edit(
        "gru", reference, "gru_forward", "n + z * (h - n)", "h + z * (n - h)",
        known="update gate and its complement exchanged",
    ),
    **edits("gru", reference, "gru_forward", {
        "gru: reset on the product where it is before": ("h if reset_after else r * h", "h"),
        "gru: reset in both places": ("h if reset_after else r * h", "r * h"),
        "gru: reset of the product left out": ("r * products[t] if reset_after else products[t]", "products[t]"),
        "gru: reset gate is 1 - r": ("(h if", "r[:] = 1 - r\n        products[t] = (h if"),
        "gru: nothing kept": ("n + z * (h - n)", "n - z * n"),
        "gru: all kept": ("n + z * (h - n)", "n + z * h"),
        "gru: tanh of the candidate left out": ("np.tanh(n +", "(n +"),
        "gru: sigmoid of the candidate for tanh": ("np.tanh(n +", "sigmoid(n +"),
        "gru: tanh for sigmoid in the gates": ("= sigmoid(gates", "= np.tanh(gates"),
        "gru: hard sigmoid in the gates": (
            "= sigmoid(gates[t, :, : 2 * size] + h @ weights[:, : 2 * size])",
            "= np.clip(0.5 + 0.2 * (gates[t, :, : 2 * size] + h @ weights[:, : 2 * size]), 0, 1)",
        ),
        "gru: the gates do not read the state": (" + h @ weights[:, : 2 * size]", ""),
        "gru: hidden[t] is the state before": (
            "np.where(valid, n + z * (h - n), 0)\n        h = np.where(valid, hidden[t], h)",
            "np.where(valid, h, 0)\n        h = np.where(valid, n + z * (h - n), h)",
        ),
        "gru: outputs beyond the end repeated, not zero": (
            "np.where(valid, n + z * (h - n), 0)", "np.where(valid, n + z * (h - n), h)"
        ),
        "gru: the state goes on beyond the end": (
            "h = np.where(valid, hidden[t], h)", "h = n + z * (h - n)"
        ),
    }),
}  # fmt: skip
GRADIENTS = {
    "gru: gradient arriving at h left out": change_inputs(
        "gru", lambda a: {"dh": 0 * a["dh"]}, "gradient arriving at h left out"
    ),
    **edits("gru", reference, "gru_backward", {
        "gru: slope of tanh left out": ("* (1 - n**2)", ""),
        "gru: slope of the update gate left out": ("* z * (1 - z)\n", "\n"),
        "gru: slope of the reset gate left out": (" * r * (1 - r)\n", "\n"),
        "gru: gradient of z without the old state": ("(h - n)", "(-n)"),
        "gru: gradient of n without 1 - z": ("dstate * (1 - z) * (1 - n**2)", "dstate * (1 - n**2)"),
        "gru: gradient of the product without r": ("(dn * r if reset_after else dn) @", "dn @"),
        "gru: gradient of r h for that of h": ("dread if reset_after else dread * r", "dread"),
        "gru: gradient of r from the product in both conventions": (
            "dn * products[t] if reset_after else dread * h", "dn * products[t]"
        ),
        "gru: gradient of r without the gradient of n": (
            "dn * products[t] if reset_after", "dstate * products[t] if reset_after"
        ),
        "gru: gradient not kept by z": ("dstate * z + ", "0 * dstate + "),
        "gru: gradient not carried through the gates": (" + through_gates, dh)", ", dh)"),
        "gru: gradient not carried through the candidate": (
            "(dread if reset_after else dread * r) + through", "0 * dread + through"
        ),
        "gru: gradient stops at each step": ("dhidden[t] + dh\n", "dhidden[t]\n"),
        "gru: gradients beyond the end leak": (
            "np.where(valid, np.concatenate((dr, dz, dn), axis=1), 0)", "np.concatenate((dr, dz, dn), axis=1)"
        ),
        "gru: the gradient of an ended sequence is lost": ("through_gates, dh)", "through_gates, 0 * dh)"),
    }),
}  # fmt: skip
WEIGHTS = {
    **edits("gru", gru, "gru", {
        "gru: dkernel from the outputs of other steps": ("h_before.reshape", "hidden.reshape"),
        "gru: dkernel of the product without r": (
            "(h_rows, r * dn) if reset_after else (r * h_rows, dn)",
            "(h_rows, dn) if reset_after else (r * h_rows, dn)",
        ),
        "gru: dkernel of the candidate without r": ("(r * h_rows, dn)", "(h_rows, dn)"),
        "gru: gradient of the second bias is that of the first": (
            "np.concatenate((dbias, dshift))", "np.concatenate((dbias, dbias[2 * size :]))"
        ),
        "gru: dbias of the candidate's two biases exchanged": (
            "np.concatenate((dbias, dshift))",
            "np.concatenate((dbias[: 2 * size], dshift, dbias[2 * size :]))",
        ),
    }),
    "gru: dbias counted twice": change_outputs("gru", lambda o, a, k: {"dbias": 2 * o["dbias"]}),
    "gru: weight gradients averaged over the batch": change_outputs(
        "gru", lambda o, a, k: {name: o[name] / a["x"].shape[1] for name in ("dkernel", "dbias")}
    ),
    "gru: dh0 is dh": change_outputs("gru", lambda o, a, k: {"dh0": a["dh"].copy()}),
}  # fmt: skip


def wrong_gate(number):
    """Spoil the columns of one gate in dkernel."""

    def change(o, a, k):
        values = [*parts({**o, "h0": a["h0"]}, "dkernel")]
        values[number] = 1.5 * values[number]
        return {"dkernel": np.concatenate(values, axis=-1)}

    return change


OTHERS = {
    **{
        f"gru: wrong in the {gate} of dkernel": change_outputs(
            "gru", wrong_gate(number), f"dkernel is wrong in the columns of the {gate} only"
        )._replace(first="dkernel")
        for number, gate in enumerate(("reset gate", "update gate", "candidate"))
    },
    **{f"gru: {name} is overwritten": overwrites("gru", name) for name in ("x", "h0", "kernel", "bias")},
    "gru: the state goes on from call to call": keeps("gru", "hidden", goes_on(h0="h")),
    "gru: dkernel adds up from call to call": keeps("gru", "dkernel", adds_up("dkernel")),
    "gru: NaN in dbias": nan_in("gru", "dbias", -1),
    **pattern("gru", "dx", "all zero", zero),
    **factor("gru", "dkernel", "1/T"),
    **factor("gru", "dbias", "1/B"),
}
FORWARD, BACKWARD = (operators(name, "gru") for name in ("gru_forward", "gru_backward"))
WITHOUT_SHIFT = "gru_forward: products[t] = (h if reset_after else r * h) @ weights[:, 2 * size:]"
FORWARD[WITHOUT_SHIFT] = FORWARD[WITHOUT_SHIFT]._replace(known="the product's bias left out")
GRUS = {
    **label("hidden", GATES | BIASES),
    **label("hidden|h", SEQUENCE | FORWARD),
    **label("dx|dh0", GRADIENTS | BACKWARD),
    **label("dkernel|dbias|dh0", WEIGHTS),
    **OTHERS,
}
