"""A second set of wrong implementations, written after suite 2 was final and without its cases at hand.

It measures the suite: what it misses stays missed. Sources are the definitions of the ops and the mistakes that
porters make; nothing here repeats the first set.
"""

import numpy as np
from wrong import after_prox, change_inputs, change_keywords, change_outputs, edits, replace, uncut
from wrong_edges import ALIVE, around, label
from wrong_solvers import admm, afterwards, dual_gradient, jacobi, norms_of, of_strength, of_tolerance, sweeps

from issref.iss import compact, groups, penalty, prox
from issref.kernels import reference
from issref.ops import basic, losses, rhn
from issref.ops import lstm as lstm_module
from issref.training import optimizers, updates
from issref.verify.suite import reference_port


def gate(array, number, factor):
    """Scale the columns of one gate."""
    changed = array.copy()
    np.split(changed, 4, axis=-1)[number][...] *= factor
    return changed


CELL = {
    "lstm 2: no bias in the candidate": change_inputs("lstm", lambda a: {"bias": gate(a["bias"], 1, 0)}),
    "lstm 2: no bias in the output gate": change_inputs("lstm", lambda a: {"bias": gate(a["bias"], 3, 0)}),
    "lstm 2: no weights in the forget gate": change_inputs("lstm", lambda a: {"kernel": gate(a["kernel"], 2, 0)}),
    "lstm 2: the first input feature is skipped": change_inputs(
        "lstm", lambda a: {"x": np.concatenate((0 * a["x"][..., :1], a["x"][..., 1:]), axis=2)}
    ),
    "lstm 2: state rows are shifted by one": change_inputs(
        "lstm",
        lambda a: {
            "kernel": np.concatenate(
                (a["kernel"][: a["x"].shape[2]], np.roll(a["kernel"][a["x"].shape[2] :], 1, axis=0))
            )
        },
    ),
    "lstm 2: forget_bias is a factor": change_inputs("lstm", lambda a: {})._replace(
        port=lambda case, op, a, k: reference_port.answer(
            case, op, {**a, "bias": gate(a["bias"], 2, 1 + k.get("forget_bias", 0))}, {**k, "forget_bias": 0.0}
        )
    ),
    **label(
        "hidden",
        edits(
            "lstm",
            reference,
            "lstm_cell",
            {
                "lstm 2: peephole into the input gate": (
                    "sigmoid(i), np.tanh(g)",
                    "sigmoid(i + 0.1 * cell), np.tanh(g)",
                ),
                "lstm 2: peephole into the output gate": (
                    "return np.concatenate((i, g, f, o), axis=1), cell, o * np.tanh(cell)",
                    "o = o * sigmoid(cell); return np.concatenate((i, g, f, o), axis=1), cell, o * np.tanh(cell)",
                ),
                "lstm 2: a fast sigmoid": (
                    "sigmoid(i), np.tanh(g), sigmoid(f), sigmoid(o)",
                    "(0.5 + 0.5 * z / (1 + abs(z)) if z is not g else np.tanh(g) for z in (i, g, f, o))",
                ),
                "lstm 2: tanh by a rational function": (
                    "o * np.tanh(cell)",
                    "o * np.clip(cell * (27 + cell**2) / (27 + 9 * cell**2), -1, 1)",
                ),
                "lstm 2: relu of the candidate": ("np.tanh(g)", "np.maximum(g, 0)"),
                "lstm 2: softsign of the cell": ("o * np.tanh(cell)", "o * cell / (1 + abs(cell))"),
                "lstm 2: the output gate has power 2": ("o * np.tanh(cell)", "o * o * np.tanh(cell)"),
                "lstm 2: the cell is kept in float32": (
                    "cell = f * cell + i * g",
                    "cell = (f * cell + i * g).astype(np.float32).astype(cell.dtype)",
                ),
                "lstm 2: cells below 1e-3 are zero": (
                    "cell = f * cell + i * g",
                    "cell = f * cell + i * g; cell = np.where(abs(cell) < 1e-3, 0, cell)",
                ),
            },
        ),
    ),
    **label(
        "hidden",
        edits(
            "lstm",
            reference,
            "lstm_forward",
            {
                "lstm 2: the first state at every step": (
                    "h, c = np.where(valid, hidden[t], h)",
                    "h, c = np.where(valid, h, h)",
                ),
                "lstm 2: the cell starts again at every step": (
                    "lstm_cell(gates[t] + h @ weights, c)",
                    "lstm_cell(gates[t] + h @ weights, 0 * c)",
                ),
                "lstm 2: the state is rounded to float16": (
                    "gates[t] + h @ weights",
                    "gates[t] + h.astype(np.float16).astype(h.dtype) @ weights",
                ),
                "lstm 2: c runs on in the padding": ("np.where(valid, c_after[t], c)", "c_after[t]"),
                "lstm 2: one step more than the length": ("t < lengths[:, None]", "t <= lengths[:, None]"),
                "lstm 2: the first sequence's length for all": ("t < lengths[:, None]", "t < lengths[:1, None]"),
                "lstm 2: the state is zero in the padding": (
                    "np.where(valid, hidden[t], h)",
                    "np.where(valid, hidden[t], 0)",
                ),
            },
        ),
    ),
    **label(
        "dx",
        edits(
            "lstm",
            reference,
            "lstm_cell_backward",
            {
                "lstm 2: slope of the candidate is 1 - g": ("dg * (1 - g**2)", "dg * (1 - g)"),
                "lstm 2: slope of the input gate is i": ("di * i * (1 - i)", "di * i"),
                "lstm 2: slope of the forget gate from c": ("dcell * previous", "dcell * cell"),
                "lstm 2: slope of the output gate from the cell": ("dhidden * squashed", "dhidden * cell"),
                "lstm 2: the output gate gets no gradient": ("do * o * (1 - o)", "0 * do"),
                "lstm 2: the forget gate gets no gradient": ("df * f * (1 - f)", "0 * df"),
                "lstm 2: the cell's gradient without the output gate": (
                    "dhidden * o * (1 - squashed**2)",
                    "dhidden * (1 - squashed**2)",
                ),
            },
        ),
    ),
    **label(
        "dx",
        edits(
            "lstm",
            reference,
            "lstm_backward",
            {
                "lstm 2: dh is lost in the padding": (
                    "np.where(valid, dgates[t] @ weights.T, dh)",
                    "np.where(valid, dgates[t] @ weights.T, 0)",
                ),
                "lstm 2: dc is lost in the padding": (
                    "np.where(valid, dprevious, dc)",
                    "np.where(valid, dprevious, 0)",
                ),
                "lstm 2: dh is added at every step": (
                    "np.where(valid, dgates[t] @ weights.T, dh)",
                    "np.where(valid, dgates[t] @ weights.T + 0.1 * dh, dh)",
                ),
            },
        ),
    ),
    "lstm 2: the gradient of the last output twice": around(
        "lstm",
        lambda call, a, k: call({**a, "dh": a["dh"] + a["dhidden"][0 if k.get("reverse") else -1]}),
        first="dx",
    ),
    "lstm 2: dbias of the last step only": around(
        "lstm",
        lambda call, a, k: call(a) | {"dbias": call({**a, "dhidden": 0 * a["dhidden"]})["dbias"]},
        first="dbias",
    ),
    "lstm 2: rows of dkernel exchanged": change_outputs(
        "lstm", lambda o, a, k: {"dkernel": np.roll(o["dkernel"], a["h0"].shape[1], axis=0)}
    )._replace(first="dkernel"),
    "lstm 2: reverse returns the last position's h": change_outputs(
        "lstm", lambda o, a, k: {"h": o["hidden"][-1]} if k.get("reverse") else {}
    )._replace(first="h"),
    "lstm 2: dc0 is dh0 times the cell": change_outputs(
        "lstm", lambda o, a, k: {"dc0": o["dh0"] * a["c0"]}
    )._replace(first="dc0"),
    "lstm 2: dx of the first sequence for all": change_outputs(
        "lstm", lambda o, a, k: {"dx": o["dx"][:, :1].repeat(o["dx"].shape[1], axis=1)}
    )._replace(first="dx"),
    **label(
        "dkernel",
        edits(
            "lstm",
            lstm_module,
            "lstm",
            {
                "lstm 2: dkernel from the first state only": (
                    "h_before.reshape",
                    "h_before[:1].repeat(steps, 0).reshape",
                ),
                "lstm 2: dkernel without the input rows": (
                    "dkernel, dbias = _affine_backward((x_rows, h_rows), drows)",
                    "dkernel, dbias = _affine_backward((0 * x_rows, h_rows), drows)",
                ),
            },
        ),
    ),
}

LAYERS = {
    **label(
        "hidden",
        edits(
            "bidirectional",
            reference_port,
            "_bidirectional",
            {
                "bidirectional 2: dx is a difference": ("dx[0] + dx[1]", "dx[0] - dx[1]"),
                "bidirectional 2: dx is a mean": ("dx[0] + dx[1]", "(dx[0] + dx[1]) / 2"),
                "bidirectional 2: dhidden split in the middle": (
                    '[given["fw/h0"].shape[1]]',
                    '[given["dhidden"].shape[2] // 2]',
                ),
                "bidirectional 2: backward outputs left reversed": (
                    "np.concatenate(hidden, axis=-1)",
                    "np.concatenate((hidden[0], hidden[1][::-1]), axis=-1)",
                ),
                "bidirectional 2: outputs interleaved": (
                    "np.concatenate(hidden, axis=-1)",
                    "np.concatenate(hidden, axis=-1)[..., np.argsort([0, 2, 4, 1, 3], kind='stable')]",
                ),
            },
        ),
    ),
    "bidirectional 2: backward reads x in reverse without lengths": around(
        "bidirectional",
        lambda call, a, k: (
            call(a)
            | {
                key: values
                for key, values in call({**a, "lengths": np.full_like(a["lengths"], len(a["x"]))}).items()
                if key.startswith("bw/")
            }
        ),
        first="bw/h",
    ),
    "bidirectional 2: backward starts from zeros": change_inputs(
        "bidirectional", lambda a: {"bw/h0": 0 * a["bw/h0"], "bw/c0": 0 * a["bw/c0"]}
    ),
    "bidirectional 2: no backward bias": change_inputs("bidirectional", lambda a: {"bw/bias": 0 * a["bw/bias"]}),
    "stacked 2: mask between the layers twice": change_inputs("stacked", lambda a: {"mask1": a["mask1"] ** 2}),
    "stacked 2: masks without the division": change_inputs(
        "stacked", lambda a: {key: (a[key] > 0).astype(float) for key in ("mask0", "mask1", "mask2")}
    ),
    "stacked 2: the mask of the output reversed in time": change_inputs(
        "stacked", lambda a: {"mask2": a["mask2"][::-1]}
    ),
    "stacked 2: dx without its mask": around(
        "stacked",
        lambda call, a, k: (
            call(a) | {"dx": call({**a, "x": a["x"] * a["mask0"], "mask0": np.ones_like(a["mask0"])})["dx"]}
        ),
        first="dx",
    ),
    "stacked 2: the first layer's state masked": change_outputs(
        "stacked", lambda o, a, k: {"lstm0/h": o["lstm0/h"] * a["mask1"][-1]}
    )._replace(first="lstm0/h"),
    "stacked 2: no gradient into the first layer's h": change_inputs(
        "stacked", lambda a: {"lstm0/dh": 0 * a["lstm0/dh"]}
    ),
    "stacked 2: no gradient from the second layer": change_outputs(
        "stacked", lambda o, a, k: {"lstm0/dbias": o["lstm0/dbias"] * 0.5}
    )._replace(first="lstm0/dbias"),
    **label(
        "hidden",
        edits(
            "rhn",
            reference,
            "highway_cell",
            {
                "rhn 2: relu of the candidate": (
                    "h, t = np.tanh(h), sigmoid(t)",
                    "h, t = np.maximum(h, 0), sigmoid(t)",
                ),
                "rhn 2: tanh of the transform": ("h, t = np.tanh(h), sigmoid(t)", "h, t = np.tanh(h), np.tanh(t)"),
                "rhn 2: carry without the state": ("state + t * (h - state)", "t * h + (1 - t) * np.tanh(state)"),
                "rhn 2: the transform is rounded to float32": (
                    "h, t = np.tanh(h), sigmoid(t)",
                    "h, t = np.tanh(h), sigmoid(t).astype(np.float32).astype(t.dtype)",
                ),
            },
        ),
    ),
    **label(
        "hidden",
        edits(
            "rhn",
            rhn,
            "rhn",
            {
                "rhn 2: hidden of the first micro-layer": (
                    "hidden[t] = s",
                    "hidden[t] = before[min(1, depth - 1), t]",
                ),
                "rhn 2: biases once for all micro-layers": ("biases[d]\n", "biases[-1]\n"),
                "rhn 2: kernel 1 in all deeper micro-layers": ("@ from_state[d] +", "@ from_state[min(d, 1)] +"),
                "rhn 2: state mask at the first step only": (
                    "_dropped(s, state_mask) @",
                    "_dropped(s, state_mask if t == 0 else None) @",
                ),
                "rhn 2: the input of the step before": (
                    "entering[t] if d == 0",
                    "entering[max(t - 1, 0)] if d == 0",
                ),
                "rhn 2: the first state at every step": (
                    "before[d, t] = s",
                    "s = s0 if d == 0 else s; before[d, t] = s",
                ),
                "rhn 2: dhidden twice": ("ds = ds + dhidden[t]", "ds = ds + 2 * dhidden[t]"),
                "rhn 2: dbias of the last step": ("drows[d].sum(axis=0)", "du[d, -1].sum(axis=0)"),
                "rhn 2: dx of the first micro-layer's candidate": (
                    "drows[0] @ from_input.T",
                    "0.5 * drows[0] @ from_input.T",
                ),
                "rhn 2: dkernel of the input without the mask": (
                    "x_rows.T @ drows[0]",
                    "x.reshape(len(x_rows), -1).T @ drows[0]",
                ),
            },
        ),
    ),
    **label(
        "y",
        edits(
            "dropout",
            basic,
            "dropout",
            {
                "dropout 2: divided by the mean of the mask": ("else x * mask", "else x * mask / mask.mean()"),
                "dropout 2: the mask of the first row": (
                    "else x * mask",
                    "else x * mask.reshape(-1, mask.shape[-1])[0]",
                ),
                "dropout 2: the gradient is divided by the mask": (
                    "dy if mask is None else dy * mask",
                    "dy / np.where(mask > 0, mask, 1)",
                ),
            },
        ),
    ),
}

LOSSES = {
    **label(
        "loss",
        edits(
            "cross_entropy",
            losses,
            "cross_entropy",
            {
                "cross-entropy 2: in float32": (
                    "loss = (log_sum",
                    "loss = np.float32(1) * (log_sum.astype(np.float32)",
                ),
                "cross-entropy 2: mean over the words": ("/ batch\n", "/ batch / logits.shape[-1]\n"),
                "cross-entropy 2: the last word is padding": (
                    "(log_sum - rows[np.arange(len(rows)), aims])",
                    "((log_sum - rows[np.arange(len(rows)), aims]) * (aims != logits.shape[-1] - 1))",
                ),
                "cross-entropy 2: targets of the next step": (
                    "targets.ravel()",
                    "np.roll(targets, -1, axis=0).ravel()",
                ),
                "cross-entropy 2: the target's logit only": ("(log_sum - rows", "(0 * log_sum - rows"),
                "cross-entropy 2: the loss is at least 1e-3 a word": (
                    "(log_sum - rows[np.arange(len(rows)), aims])",
                    "np.maximum(1e-3, log_sum - rows[np.arange(len(rows)), aims])",
                ),
                "cross-entropy 2: dloss twice": ("dloss / batch", "dloss * dloss / batch"),
            },
        ),
    ),
    **label(
        "dlogits",
        edits(
            "cross_entropy",
            reference,
            "softmax_minus_target",
            {
                "cross-entropy 2: gradient of the probability": ("scale * np.exp(", "scale * 0.5 * np.exp("),
                "cross-entropy 2: one-hot added": ("-= scale", "+= scale"),
                "cross-entropy 2: one-hot without the scale": ("-= scale", "-= 1"),
                "cross-entropy 2: small probabilities get no gradient": (
                    "gradient = scale * np.exp(logits - log_sum[:, None])",
                    "p = np.exp(logits - log_sum[:, None]); gradient = scale * np.where(p < 1e-4, 0, p)",
                ),
            },
        ),
    ),
    **label(
        "norm|a",
        edits(
            "clip",
            optimizers,
            "global_norm",
            {
                "clip 2: the sum of the norms": (
                    "math.sqrt(sum(float(np.vdot(gradient, gradient))",
                    "float(sum(math.sqrt(np.vdot(gradient, gradient))",
                ),
                "clip 2: the norm without vectors": (
                    "for gradient in grads.values()",
                    "for gradient in grads.values() if gradient.ndim > 1",
                ),
                "clip 2: the norm in float32": (
                    "float(np.vdot(gradient, gradient))",
                    "float(np.float32(np.vdot(gradient, gradient)))",
                ),
            },
        ),
    ),
    **label(
        "a",
        edits(
            "clip",
            optimizers,
            "clip_scale",
            {
                "clip 2: most / (norm + most)": ("most / norm if", "most / (norm + most) if"),
                "clip 2: the square of the scale": ("most / norm if", "(most / norm) ** 2 if"),
                "clip 2: norms up to twice the limit pass": ("norm > most", "norm > 1.9 * most"),
                "clip 2: scaled to slightly below most": ("most / norm if", "0.999999 * most / norm if"),
            },
        ),
    ),
    "clip 2: by rows": change_outputs(
        "clip",
        lambda o, a, k: {
            key: a[key]
            * np.minimum(1, k["most"] / np.maximum(1e-300, np.linalg.norm(a[key], axis=-1, keepdims=True)))
            for key in a
        },
    )._replace(first="a"),
}


def sum_of_parts(params, found):
    """Return the norm of the rows plus the norm of the columns of each group."""
    table = groups.pair_squared_norms(params, found)
    return (np.sqrt(table.sum(axis=0)) + np.sqrt(table.sum(axis=1)))[:-1]


def by_array(params, found, strength, **_):
    """Solve the proximal step for each array alone."""
    after = {}
    for array in found.ids:
        alone = found._replace(ids={array: found.ids[array]})
        after |= {array: EXACT({array: params[array]}, alone, strength)[0][array]}
    return {**params, **after}, EXACT(params, found, strength)[1]


def with_biases(params, found, strength, **_):
    after, certificate = EXACT(params, found, strength)
    return {key: 0.9 * values if key.endswith("bias") else values for key, values in after.items()}, certificate


def stale(params, found, strength, **_):
    """Find the dead groups at half the strength."""
    after, _ = EXACT(params, found, strength)
    _, certificate = EXACT(params, found, np.broadcast_to(strength, found.count) / 2)
    return after, certificate


EXACT = prox.prox
GROUPED = {
    **{
        f"norms 2: {name}": replace("norms", groups, "group_norms", function)
        for name, function in {
            "norm of the rows plus norm of the columns": sum_of_parts,
            "the table's diagonal only": lambda p, g: np.sqrt(groups.pair_squared_norms(p, g).diagonal()[:-1]),
            "in float32": lambda p, g: NORMS({k: v.astype(np.float32) for k, v in p.items()}, g).astype(
                np.float32
            ),
            "of the absolute values": lambda p, g: NORMS({k: np.sqrt(abs(v)) for k, v in p.items()}, g) ** 2,
            "sorted": lambda p, g: np.sort(NORMS(p, g)),
            "divided by the largest": lambda p, g: NORMS(p, g) / max(NORMS(p, g).max(), 1e-300),
        }.items()
    },
    **label(
        "value|d/*",
        edits(
            "penalty",
            penalty,
            "penalty",
            {
                "penalty 2: smoothing of 1e-6": ("+ smoothing)", "+ smoothing + 1e-12)"),
                "penalty 2: gradient of a zero group is its strength": ("where=norms != 0", "where=norms > -1"),
                "penalty 2: half the value": ("strengths @ norms", "strengths @ norms / 2"),
                "penalty 2: strengths reversed": ("strengths @ norms", "strengths[::-1] @ norms"),
                "penalty 2: the mean of the groups": ("strengths @ norms", "strengths @ norms / len(norms)"),
            },
        ),
    ),
    "penalty 2: gradient in float32": change_outputs(
        "penalty",
        lambda o, a, k: {key: o[key].astype(np.float32).astype(float) for key in o if key.startswith("d/")},
    )._replace(first="d/*"),
    "penalty 2: biases get a gradient": change_outputs(
        "penalty", lambda o, a, k: {key: o[key] + 1e-3 * np.sign(a[key[2:]]) for key in o if key.startswith("d/")}
    )._replace(first="d/*"),
    **{
        f"prox 2: {name}": replace("prox train", prox, "prox", solver)
        for name, solver in {
            "15 sweeps": sweeps(15),
            "30 sweeps": sweeps(30),
            "a relative gap of 1e-7": of_tolerance(1e-7),
            "a relative gap of 3e-9": of_tolerance(3e-9),
            "60 simultaneous passes": jacobi(60),
            "100 gradient steps on the dual": dual_gradient(100, 0.4),
            "50 rounds of ADMM, rho 2": admm(50, 2.0),
            "each array alone": by_array,
            "biases shrunk as well": with_biases,
            "the largest strength for all": of_strength(lambda s, *_: np.full_like(s, s.max())),
            "strength times the root of two": of_strength(lambda s, *_: s * 2**0.5),
            "a strength that is 1e-6 too large": of_strength(lambda s, *_: s * (1 + 1e-6)),
            "a strength that is 1e-4 too small": of_strength(lambda s, *_: s * (1 - 1e-4)),
            "weights below 1e-3 die by themselves": after_prox(lambda v, w: np.where(abs(w) < 1e-3, 0, w)),
            "weights in float16": after_prox(lambda v, w: w.astype(np.float16).astype(w.dtype)),
            "shrunk twice": lambda p, g, s, **_: EXACT(EXACT(p, g, s)[0], g, s),
            "dead groups found at half the strength": stale,
            "the smallest group always dies": afterwards(
                lambda v, w, masks, s: np.where(masks[np.argmin(norms_of(v, masks))], 0, w)
            ),
            "signs are lost": after_prox(lambda v, w: abs(w)),
            "a group at most 1 % above the strength dies": afterwards(
                lambda v, w, masks, s: np.where(masks[norms_of(v, masks) <= 1.01 * s].any(axis=0), 0, w)
            ),
        }.items()
    },
    **label(
        "gap|objective|norms/*|dual/*",
        edits(
            "gap",
            reference,
            "duality_gap",
            {
                "gap 2: the objective without the half": ("(1 - factor) ** 2) / 4", "(1 - factor) ** 2) / 4 * 2"),
                "gap 2: the penalty of half the norms": ("/ 4 + strength @ norms", "/ 4 + strength @ norms / 2"),
                "gap 2: only the shares' product": ("strength @ norms - np.sum", "-np.sum"),
                "gap 2: norms of v": ("squared_norms * factor**2, axis=1", "squared_norms, axis=1"),
            },
        ),
    ),
    "gap 2: the gap relative to the objective": change_outputs(
        "gap", lambda o, a, k: {"gap": o["gap"] / o["objective"]}
    )._replace(first="gap"),
    "gap 2: dual squared": change_outputs(
        "gap", lambda o, a, k: {key: o[key] ** 2 for key in o if key.startswith("dual/")}
    )._replace(first="dual/*"),
    "gap 2: never negative, at least 1e-3": change_outputs(
        "gap", lambda o, a, k: {"gap": np.maximum(o["gap"], 1e-3)}
    )._replace(first="gap"),
}
NORMS = groups.group_norms


def both_needed(params, found, readers=None):
    """Rows and columns must both be nonzero."""
    rows, columns = (ALIVE(params, found, [(array, axis) for array in found.ids]) for axis in (0, 1))
    return {space: rows[space] & columns[space] for space in rows}


def by_size(params, found, readers=None):
    """Keep the right number of units, those with the largest norms."""
    right, norms = ALIVE(params, found, readers), found.split(NORMS(params, found))
    return {
        space: np.argsort(np.argsort(-norms[space], kind="stable"), kind="stable") < mask.sum()
        for space, mask in right.items()
    }


COMPACTION = {
    **{
        f"compact 2: {array} not cut along axis {axis}": uncut(array, axis)
        for array, axis in (
            ("lstm0/c", 1),
            ("lstm1/h", 1),
            ("lstm1/bias", 0),
            ("lstm1/kernel", 1),
            ("micro0/bias", 0),
            ("micro1/kernel", 0),
        )
    },
    "alive 2: rows and columns both": replace("compact", groups, "alive", both_needed),
    "alive 2: by size": replace("compact", groups, "alive", by_size),
    "alive 2: the sum of the absolute weights above 1e-3": replace(
        "compact",
        groups,
        "alive",
        lambda p, g, r=None: ALIVE({k: np.where(abs(v) < 1e-3, 0, v) for k, v in p.items()}, g, r),
    ),
    "alive 2: axes of readers exchanged": change_keywords(
        "compact",
        lambda k: {"readers": [[array, 1 - axis] for array, axis in k["readers"]]} if k.get("readers") else {},
    ),
    "alive 2: the last pattern only": change_keywords(
        "compact", lambda k: {"readers": k["readers"][-1:]} if k.get("readers") else {}
    ),
    "alive 2: a unit with a bias is alive": change_outputs(
        "compact", lambda o, a, k: {key: o[key] | True for key in o if key.startswith("alive/")}
    ),
    "alive 2: as numbers": change_outputs(
        "compact", lambda o, a, k: {key: o[key].astype(np.int64) for key in o if key.startswith("alive/")}
    ),
    "compact 2: weights of the kept units normalised": change_outputs(
        "compact",
        lambda o, a, k: {
            key: o[key] / max(1.0, abs(o[key]).max(initial=0)) for key in o if key.endswith("kernel")
        },
    ),
    "compact 2: tiny weights rounded to zero": change_outputs(
        "compact",
        lambda o, a, k: {key: np.where(abs(o[key]) < 1e-20, 0, o[key]) for key in o if key.endswith("kernel")},
    ),
    "compact 2: biases of removed units added to the next": change_outputs(
        "compact",
        lambda o, a, k: {key: o[key] + 1e-6 * (a[key].sum() - o[key].sum()) for key in o if key.endswith("/bias")},
    ),
}


def with_momentum(descend):
    before = {}

    def update(params, grads, rate, lasso, state):
        step = {array: gradient + 0.9 * before.get(array, 0) for array, gradient in grads.items()}
        before.update({array: values.copy() for array, values in step.items()})
        params = descend(params, step, rate, state)
        return prox.prox(params, lasso.groups, rate * lasso.strengths)[0], state, updates.NO_GROUPS

    return update


def decaying(descend):
    steps = []

    def update(params, grads, rate, lasso, state):
        steps.append(rate)
        rate = rate * 0.9 ** (len(steps) - 1)
        params = descend(params, grads, rate, state)
        return prox.prox(params, lasso.groups, rate * lasso.strengths)[0], state, updates.NO_GROUPS

    return update


TRAINING = {
    "train 2: momentum": replace("train", updates, "prox_update", with_momentum),
    "train 2: the rate decays": replace("train", updates, "prox_update", decaying),
    "train 2: targets and tokens exchanged": change_inputs(
        "train", lambda a: {"tokens": a["targets"], "targets": a["tokens"]}
    ),
    "train 2: the batch is rolled between windows": change_inputs(
        "train", lambda a: {"tokens": np.roll(a["tokens"], 1, axis=2)}
    ),
    "train 2: the last window is left out": change_outputs(
        "train", lambda o, a, k: {"loss": np.append(o["loss"][:-1], o["loss"][-1:] * 0)}
    ),
    "train 2: losses averaged over the steps so far": change_outputs(
        "train", lambda o, a, k: {"loss": np.cumsum(o["loss"]) / np.arange(1, len(o["loss"]) + 1)}
    ),
    "train 2: h and c carried exchanged": change_inputs(
        "train",
        lambda a: {
            key: a[key[:-1] + ("c" if key[-1] == "h" else "h")] for key in a if key.startswith("state/lstm")
        },
    ),
    "train 2: word masks are not shared": change_inputs(
        "train", lambda a: {"masks/word": a["masks/word"][:, ::-1]} if "masks/word" in a else {}
    ),
    "train 2: no output mask": change_inputs(
        "train", lambda a: {key: np.ones_like(a[key]) for key in ("masks/output", "masks/lstm1") if key in a}
    ),
    "train 2: the threshold on biases is skipped": change_outputs(
        "train",
        lambda o, a, k: (
            {"params/softmax/bias": np.where(o["params/softmax/bias"] == 0, 1e-3, o["params/softmax/bias"])}
            if k["method"] == "released"
            else {}
        ),
    ),
    "train 2: the threshold is doubled": change_keywords(
        "train", lambda k: {"threshold": 2 * k["threshold"]} if "threshold" in k else {}
    ),
    "train 2: alive judged before the last step": change_outputs(
        "train", lambda o, a, k: {key: np.ones_like(o[key]) for key in o if key.startswith("alive/")}
    ),
    **label(
        "loss|params/*",
        edits(
            "train",
            updates,
            "clipped_sgd",
            {
                "train 2: clip on the update": (
                    "rate * clip_scale(global_norm(grads), clip)",
                    "rate * clip_scale(rate * global_norm(grads), clip)",
                ),
                "train 2: clip at twice the limit": ("global_norm(grads), clip)", "global_norm(grads), 2 * clip)"),
            },
        ),
    ),
    **label(
        "loss|params/*",
        edits(
            "train",
            optimizers,
            "sgd",
            {
                "train 2: weight decay of 1e-5": (
                    "kernels.descend(params[array], gradient, rate)",
                    "kernels.descend((1 - 1e-5) * params[array], gradient, rate)",
                ),
                "train 2: biases learn at twice the rate": (
                    "gradient, rate)",
                    "gradient, rate * (2 if array.endswith('bias') else 1))",
                ),
                "train 2: the embedding is not trained": (
                    "gradient, rate)",
                    "gradient, rate * (array != 'embed/kernel'))",
                ),
            },
        ),
    ),
    **label(
        "loss|params/*",
        edits(
            "train",
            basic,
            "embed",
            {
                "train 2: gradients of words averaged": (
                    "return dtable",
                    "return dtable / np.maximum(1, np.bincount(ids.ravel(), minlength=len(table)))[:, None]",
                ),
            },
        ),
    ),
    **label(
        "params/*",
        edits(
            "train",
            compact,
            "zero_small_weights",
            {
                "train 2: the threshold includes its value": ("< threshold", "<= 1.05 * threshold"),
            },
        ),
    ),
}
SECOND = CELL | LAYERS | LOSSES | GROUPED | COMPACTION | TRAINING
