"""Wrong implementations at the edges: readers, lengths, magnitudes, masks, memory, and what porters report.

Each is labelled with the first output that is wrong; one with `known` must be named by the diagnosis.
"""

import numpy as np
from wrong import Mutant, blocks, change_inputs, change_keywords, change_outputs, edits, replace

from issref.iss import groups
from issref.kernels import reference
from issref.ops import losses, lstm
from issref.training import optimizers, updates
from issref.verify.suite import reference_port

answer = reference_port.answer


def label(first, table):
    return {name: mutant._replace(first=mutant.first or first) for name, mutant in table.items()}


def around(ops, change, known="", first=""):
    """Change a whole call: change(call, inputs, keywords) -> outputs, where call(inputs, keywords) is right."""

    def port(case, op, a, k):
        return change(lambda a, k=k: answer(case, op, a, k), a, k)

    return Mutant(ops, port, known=known, first=first)


# ---------------------------------------------------------------- readers

SELF = "nonzero[(ids[0][:, None] == ids[1]) & (ids[1] >= 0)] = False"


def reading(lines):
    """Change what counts as read, in the lines after `nonzero` is known."""
    return ("!= 0\n", f"!= 0\n        {lines}\n")


def same_space(wanted):
    return (
        "space = lambda one: np.where(one < 0, -1, np.searchsorted([*groups.first.values()], one, 'right')); "
        f"nonzero[(space(ids[0])[:, None] == space(ids[1])) != {wanted}] = False"
    )


ALIVE = groups.alive


def alive_after(change):
    """Change the masks of what is alive: change(mask) -> mask."""
    return replace(
        "compact",
        groups,
        "alive",
        lambda *arguments: {space: change(mask.copy()) for space, mask in ALIVE(*arguments).items()},
    )


def read_by_the_living(params, found, readers=None):
    """Weights of a dead reader do not count, again and again."""
    params = {array: values.copy() for array, values in params.items()}
    while True:
        mask = np.append(np.concatenate([*ALIVE(params, found, readers).values()]), True)
        if readers is None or not any(
            params[array][:, ~mask[columns]].any() for array, (_, columns) in found.ids.items()
        ):
            return ALIVE(params, found, readers)
        for array, (_, columns) in found.ids.items():
            params[array][:, ~mask[columns]] = 0


def set_at(index, value):
    def change(mask):
        mask[index] = value
        return mask

    return alive_after(change)


def one_stays(mask):
    mask[0] |= not mask.any()
    return mask


def all_stay(mask):
    return mask if mask.any() else ~mask


def one_left_squeezed(o, a, k):
    return {key: np.squeeze(values) for key, values in o.items() if 1 in values.shape}


READERS = label(
    "alive/*",
    {
        **edits(
            "compact",
            groups,
            "alive",
            {
                "alive: a unit that reads itself only is dead": reading(SELF),
                "alive: read by its own layer only counts": reading(same_space(True)),
                "alive: read by its own layer does not count": reading(same_space(False)),
                "alive: weights below 1e-12 are zero": (
                    "(params, array) != 0",
                    "(params, array).__abs__() > 1e-12",
                ),
                "alive: weights below 1e-7 are zero": ("(params, array) != 0", "(params, array).__abs__() > 1e-7"),
                "alive: squares in float32 underflow": (
                    "(params, array) != 0",
                    "(params, array).astype(np.float32) ** 2 > 0",
                ),
                "alive: positive weights only": ("(params, array) != 0", "(params, array) > 0"),
                "alive: the sum of the weights": (
                    "nonzero.any(axis=1 - axis)",
                    "groups.matrix(params, array).sum(axis=1 - axis) != 0",
                ),
                "alive: all weights nonzero": ("nonzero.any(axis=1 - axis)", "nonzero.all(axis=1 - axis)"),
                "alive: the first reader column only": (
                    "nonzero.any(axis=1 - axis)",
                    "nonzero.take(0, axis=1 - axis)",
                ),
                "alive: the last reader column only": (
                    "nonzero.any(axis=1 - axis)",
                    "nonzero.take(-1, axis=1 - axis)",
                ),
                "alive: two weights are needed": ("nonzero.any(axis=1 - axis)", "nonzero.sum(axis=1 - axis) > 1"),
                "alive: half of the columns only": (
                    "nonzero.any(axis=1 - axis)",
                    "np.split(nonzero, [-(-nonzero.shape[1 - axis] // 2)], 1 - axis)[0].any(axis=1 - axis)",
                ),
                "alive: by the norm above 1e-8": (
                    "nonzero.any(axis=1 - axis)",
                    "np.sqrt((groups.matrix(params, array) ** 2).sum(axis=1 - axis)) > 1e-8",
                ),
                "alive: by the mean weight": (
                    "nonzero.any(axis=1 - axis)",
                    "abs(groups.matrix(params, array).mean(axis=1 - axis)) > 1e-15",
                ),
            },
        ),
        "alive: readers that are dead do not count": replace("compact", groups, "alive", read_by_the_living),
        "alive: the first unit always": set_at(0, True),
        "alive: the last unit always": set_at(-1, True),
        "alive: the first unit never": set_at(0, False),
        "alive: the last unit never": set_at(-1, False),
        "alive: one unit stays in a space that dies whole": alive_after(one_stays),
        "alive: a space that dies whole is kept": alive_after(all_stay),
        "alive: the first pattern of readers only": change_keywords(
            "compact", lambda k: {"readers": k["readers"][:1]} if k.get("readers") else {}
        ),
        "alive: patterns are plain names": change_keywords(
            "compact",
            lambda k: {"readers": [one for one in k["readers"] if "*" not in one[0]]} if k.get("readers") else {},
        ),
        "alive: a pattern means the first array that matches": change_keywords(
            "compact",
            lambda k: (
                {"readers": [[one[0].replace("*", "0"), one[1]] for one in k["readers"]]}
                if k.get("readers")
                else {}
            ),
        ),
    },
) | label(
    "*",
    {
        "compact: an axis of length 1 is squeezed away": change_outputs("compact", one_left_squeezed),
    },
)

# ---------------------------------------------------------------- lengths, one sequence, forget_bias


def with_lengths(change):
    return lambda a: {"lengths": change(a["lengths"], len(a["x"]))} if "lengths" in a else {}


def cut_at_longest(call, a, k):
    """Run only as far as the longest sequence, and leave out the rest."""
    if "lengths" not in a or (longest := a["lengths"].max()) == len(a["x"]):
        return call(a)
    outputs = call({**a, "x": a["x"][:longest], "dhidden": a["dhidden"][:longest]})
    pad = np.zeros((len(a["x"]) - longest, *a["x"].shape[1:]))
    return {**outputs, "dx": np.concatenate((outputs["dx"], pad))}


def last_of_hidden(o, a, k):
    return {"h": o["hidden"][0 if k.get("reverse") else -1]} if "lengths" in a else {}


def sorted_batch(*names):
    """Leave the batch in the order of descending lengths."""
    return lambda o, a, k: (
        {
            name: np.moveaxis(np.moveaxis(o[name], -2, 0)[np.argsort(-a["lengths"], kind="stable")], 0, -2)
            for name in names
        }
        if "lengths" in a
        else {}
    )


def no_gradient_of_empty(o, a, k):
    empty = a.get("lengths", np.ones(len(a["h0"]))) == 0
    return {name: np.where(empty[:, None], 0, o[name]) for name in ("dh0", "dc0")}


def zero_state_of_empty(o, a, k):
    empty = a.get("lengths", np.ones(len(a["h0"]))) == 0
    return {name: np.where(empty[:, None], 0, o[name]) for name in ("h", "c")}


def running_on(call, a, k):
    """The outputs are zeros in the padding, but the last states have gone on."""
    on = call({key: values for key, values in a.items() if key != "lengths"})
    return {**call(a), "h": on["h"], "c": on["c"]}


def dirty(call, a, k):
    """The gradient of an ended sequence's weights contains the padding."""
    on = call({key: values for key, values in a.items() if key != "lengths"})
    return {**call(a), "dbias": on["dbias"]}


def one_sequence(name, change, first):
    return around(
        "lstm",
        lambda call, a, k: call(a) | ({name: change(call(a)[name], a)} if a["x"].shape[1] == 1 else {}),
        first=first,
    )


EDGES = label(
    "hidden",
    {
        "lstm: a length of 0 means all steps": change_inputs(
            "lstm", with_lengths(lambda n, steps: np.where(n == 0, steps, n))
        ),
        "lstm: a length of 0 is one step": change_inputs("lstm", with_lengths(lambda n, steps: np.maximum(n, 1))),
        "lstm: lengths one too long": change_inputs(
            "lstm", with_lengths(lambda n, steps: np.minimum(n + 1, steps))
        ),
        "lstm: lengths one too short": change_inputs("lstm", with_lengths(lambda n, steps: np.maximum(n - 1, 0))),
        "lstm: the longest length for all": change_inputs(
            "lstm", with_lengths(lambda n, steps: np.full_like(n, n.max()))
        ),
        "lstm: the longest sequence has all steps": change_inputs(
            "lstm", with_lengths(lambda n, steps: np.where(n == n.max(), steps, n))
        ),
        "lstm: hidden ends with the longest sequence": around("lstm", cut_at_longest),
        "lstm: lengths ignored in reverse": around(
            "lstm",
            lambda call, a, k: call(
                {key: values for key, values in a.items() if key != "lengths" or not k.get("reverse")}
            ),
        ),
        "lstm: reverse ignored with lengths": around(
            "lstm", lambda call, a, k: call(a, {**k, "reverse": k.get("reverse", False) and "lengths" not in a})
        ),
        "lstm: forget_bias is 1 if it is not 0": change_keywords(
            "lstm", lambda k: {"forget_bias": float(k.get("forget_bias", 0) != 0)}
        ),
        "lstm: forget_bias is a whole number": change_keywords(
            "lstm", lambda k: {"forget_bias": float(int(k.get("forget_bias", 0)))}
        ),
        "lstm: forget_bias squared": change_keywords(
            "lstm", lambda k: {"forget_bias": k.get("forget_bias", 0.0) ** 2}
        ),
        "lstm: forget_bias of 1 only": change_keywords(
            "lstm", lambda k: {"forget_bias": float(k.get("forget_bias", 0) == 1)}
        ),
        "lstm: forget_bias left out with lengths": around(
            "lstm", lambda call, a, k: call(a, {**k, "forget_bias": 0.0} if "lengths" in a else k)
        ),
        "lstm: forget_bias left out in reverse": around(
            "lstm", lambda call, a, k: call(a, {**k, "forget_bias": 0.0} if k.get("reverse") else k)
        ),
        "lstm: one sequence: hidden squeezed": around(
            "lstm",
            lambda call, a, k: {
                key: np.squeeze(values, 1) if key == "hidden" and a["x"].shape[1] == 1 else values
                for key, values in call(a).items()
            },
        ),
        "lstm: one sequence: first state left out": around(
            "lstm",
            lambda call, a, k: call({**a, "h0": 0 * a["h0"], "c0": 0 * a["c0"]} if a["x"].shape[1] == 1 else a),
        ),
        "lstm: one sequence: states exchanged": around(
            "lstm", lambda call, a, k: call({**a, "h0": a["c0"], "c0": a["h0"]} if a["x"].shape[1] == 1 else a)
        ),
        "bidirectional: a length of 0 is one step": change_inputs(
            "bidirectional", with_lengths(lambda n, steps: np.maximum(n, 1))
        ),
        "bidirectional: the longest sequence has all steps": change_inputs(
            "bidirectional", with_lengths(lambda n, steps: np.where(n == n.max(), steps, n))
        ),
    },
) | {
    "lstm: the state of an empty sequence is zero": change_outputs("lstm", zero_state_of_empty)._replace(
        first="h"
    ),
    "lstm: no gradient at an empty sequence's first state": change_outputs("lstm", no_gradient_of_empty)._replace(
        first="dh0"
    ),
    "lstm: h is that of the last step": change_outputs(
        "lstm", last_of_hidden, known="h is the output of the last step, also of sequences that have ended"
    )._replace(first="h"),
    "lstm: the batch is left sorted by length": change_outputs(
        "lstm", sorted_batch("hidden", "h", "c"), known="the batch is left sorted by length"
    )._replace(first="hidden"),
    "lstm: h and c are left sorted by length": change_outputs(
        "lstm", sorted_batch("h", "c"), known="h and c are left sorted by length"
    )._replace(first="h"),
    "lstm: the state runs on in the padding": around("lstm", running_on, "the state runs on in the padding", "h"),
    "lstm: dbias takes the padding": around("lstm", dirty, first="dbias"),
    "lstm: one sequence: dbias of the last step": one_sequence(
        "dbias", lambda values, a: values / len(a["x"]), "dbias"
    ),
    "lstm: one sequence: dh0 summed": one_sequence(
        "dh0", lambda values, a: np.full_like(values, values.sum()), "dh0"
    ),
    "lstm: one sequence: dkernel halved": one_sequence("dkernel", lambda values, a: values / 2, "dkernel"),
    "lstm: reverse with lengths: dx reversed": around(
        "lstm",
        lambda call, a, k: call(a) | ({"dx": call(a)["dx"][::-1]} if k.get("reverse") and "lengths" in a else {}),
        first="dx",
    ),
}
# ---------------------------------------------------------------- magnitudes


def lstm_cells(name, table, first):
    return label(first, edits("lstm", reference, name, table))


MAGNITUDES = {
    **lstm_cells(
        "lstm_cell",
        {
            f"lstm: the cell is clipped to {most}": (
                "cell = f * cell + i * g",
                f"cell = np.clip(f * cell + i * g, -{most}, {most})",
            )
            for most in (3, 5, 10)
        },
        "hidden",
    ),
    **lstm_cells(
        "lstm_cell",
        {
            "lstm: tanh of the cell by exp, wrong beyond 18": (
                "o * np.tanh(cell)",
                "o * np.where(abs(cell) > 18, np.sign(cell) * 0.999999, np.tanh(cell))",
            ),
            "lstm: tanh of the cell as a polynomial, wrong beyond 5": (
                "o * np.tanh(cell)",
                "o * np.where(abs(cell) > 5, 0.9999 * np.sign(cell), np.tanh(cell))",
            ),
            "lstm: sigmoids between 1e-7 and 1 - 1e-7": (
                "sigmoid(i), np.tanh(g), sigmoid(f), sigmoid(o)",
                "(np.clip(sigmoid(z), 1e-7, 1 - 1e-7) if z is not g else np.tanh(g) for z in (i, g, f, o))",
            ),
            "lstm: the output is clipped to 0.99": (
                "o * np.tanh(cell)",
                "np.clip(o * np.tanh(cell), -0.99, 0.99)",
            ),
        },
        "hidden",
    ),
    **lstm_cells(
        "lstm_cell_backward",
        {
            f"lstm: gradients are clipped to {most}": (
                "dcell = dcell + dhidden * o * (1 - squashed**2)",
                f"dhidden = np.clip(dhidden, -{most}, {most}); dcell = dcell + dhidden * o * (1 - squashed**2)",
            )
            for most in (5, 10)
        },
        "dx",
    ),
    **lstm_cells(
        "lstm_cell_backward",
        {
            "lstm: the cell's gradient is clipped to 10": (
                "dcell = dcell + dhidden * o * (1 - squashed**2)",
                "dcell = np.clip(dcell + dhidden * o * (1 - squashed**2), -10, 10)",
            ),
            "lstm: gradients of the gates are clipped to 10": (
                "np.concatenate(dpreactivation, axis=1)",
                "np.clip(np.concatenate(dpreactivation, axis=1), -10, 10)",
            ),
            "lstm: the cell's gradient is scaled to a norm of 10": (
                "dcell = dcell + dhidden * o * (1 - squashed**2)",
                "dcell = dcell + dhidden * o * (1 - squashed**2); "
                "dcell = dcell * np.minimum(1, 10 / np.sqrt((dcell**2).sum() + 1e-300))",
            ),
        },
        "dx",
    ),
    **label(
        "loss",
        edits(
            "cross_entropy",
            losses,
            "cross_entropy",
            {
                "cross-entropy: log of the probability": (
                    "(log_sum - rows[np.arange(len(rows)), aims])",
                    "-np.log(np.exp(rows[np.arange(len(rows)), aims] - log_sum))",
                ),
                "cross-entropy: 1e-12 in the logarithm": (
                    "(log_sum - rows[np.arange(len(rows)), aims])",
                    "-np.log(np.exp(rows[np.arange(len(rows)), aims] - log_sum) + 1e-12)",
                ),
                "cross-entropy: 1e-300 in the logarithm": (
                    "(log_sum - rows[np.arange(len(rows)), aims])",
                    "-np.log(np.exp(rows[np.arange(len(rows)), aims] - log_sum) + 1e-300)",
                ),
                "cross-entropy: at most 100": (
                    "(log_sum - rows[np.arange(len(rows)), aims])",
                    "np.minimum(100, log_sum - rows[np.arange(len(rows)), aims])",
                ),
                "cross-entropy: probabilities of at least 1e-45": (
                    "(log_sum - rows[np.arange(len(rows)), aims])",
                    "np.minimum(-np.log(1e-45), log_sum - rows[np.arange(len(rows)), aims])",
                ),
                "cross-entropy: labels smoothed by 1e-6": (
                    "rows[np.arange(len(rows)), aims])",
                    "(1 - 1e-6) * rows[np.arange(len(rows)), aims] - 1e-6 * rows.mean(axis=1))",
                ),
                "cross-entropy: a target of 0 is padding": (
                    "(log_sum - rows[np.arange(len(rows)), aims])",
                    "((log_sum - rows[np.arange(len(rows)), aims]) * (aims != 0))",
                ),
            },
        ),
    ),
    **label(
        "dlogits",
        edits(
            "cross_entropy",
            losses,
            "cross_entropy",
            {
                "cross-entropy: no gradient where the probability underflows": (
                    ".reshape(logits.shape)",
                    ".reshape(logits.shape)"
                    " * (rows[np.arange(len(rows)), aims] > log_sum - 700).reshape(targets.shape)[..., None]",
                ),
                "cross-entropy: gradient clipped to 1": (
                    "kernels.softmax_minus_target(rows, log_sum, aims, dloss / batch)",
                    "np.clip(kernels.softmax_minus_target(rows, log_sum, aims, dloss / batch), -1, 1)",
                ),
                "cross-entropy: gradient in float16": (
                    "kernels.softmax_minus_target(rows, log_sum, aims, dloss / batch)",
                    "kernels.softmax_minus_target(rows, log_sum, aims, dloss / batch).astype(np.float16)",
                ),
            },
        ),
    ),
    **label(
        "*",
        edits(
            "clip",
            optimizers,
            "clip_scale",
            {
                "clip: 0 / 0 without gradients": (
                    "most / norm if norm > most else 1.0",
                    "min(1.0, most / np.float64(norm))",
                ),
                "clip: no scale at a norm of 0": (
                    "most / norm if norm > most else 1.0",
                    "min(1.0, most / norm) if norm else np.nan",
                ),
                "clip: the scale of a norm above most only by half": ("norm > most", "norm > 2 * most"),
                "clip: at least 1e-3 as the norm": (
                    "most / norm if norm > most else 1.0",
                    "min(1.0, most / max(norm, 1e-3)) * (norm > 1e-3)",
                ),
                "clip: always scaled up to most": ("if norm > most else 1.0", "if norm else 1.0"),
            },
        ),
    ),
    "clip: the norm is at least 1e-6": change_outputs(
        "clip", lambda o, a, k: {"norm": np.maximum(o["norm"], 1e-6)}
    )._replace(first="norm"),
    "clip: the clipped norm is told": change_outputs(
        "clip", lambda o, a, k: {"norm": np.minimum(o["norm"], k["most"])}
    )._replace(first="norm"),
    "clip: a norm without gradients is NaN": change_outputs(
        "clip", lambda o, a, k: {"norm": o["norm"] / (o["norm"] > 0)}
    )._replace(first="norm"),
}

# ---------------------------------------------------------------- masks over windows, the dual's table


def windows(change):
    """Change the masks of all windows: change(masks, name) -> masks (windows, ...)."""
    return change_inputs(
        "train",
        lambda a: {
            key: change(values, key.partition("/")[2]) for key, values in a.items() if key.startswith("masks/")
        },
    )


def share(change):
    return change_inputs("gap", lambda a: {"share": change(a["share"].copy())})


def fill(where, value):
    def change(table):
        table[where] = value
        return table

    return change


WINDOWS = label(
    "loss",
    {
        "train: the first window's masks for all": windows(lambda m, _: np.broadcast_to(m[:1], m.shape)),
        "train: the last window's masks for all": windows(lambda m, _: np.broadcast_to(m[-1:], m.shape)),
        "train: masks of the window before": windows(lambda m, _: np.roll(m, 1, axis=0)),
        "train: masks in the first window only": windows(
            lambda m, _: np.concatenate((m[:1], np.ones_like(m[1:])))
        ),
        "train: masks in the last window only": windows(
            lambda m, _: np.concatenate((np.ones_like(m[:-1]), m[-1:]))
        ),
        "train: the first window's targets for all": change_inputs(
            "train", lambda a: {"targets": np.broadcast_to(a["targets"][:1], a["targets"].shape)}
        ),
        "train: the state starts at zero in each window": around(
            "train",
            lambda call, a, k: call(
                {key: 0 * values if key.startswith("state/") else values for key, values in a.items()}
            ),
        ),
        "train: one mask for both layers": change_inputs(
            "train",
            lambda a: {"masks/embed": a["masks/embed"] * 0 + a["masks/embed"].max()} if "masks/embed" in a else {},
        ),
        "train: the state is taken after the step of the first sequence": change_inputs(
            "train",
            lambda a: {
                key: np.broadcast_to(values[:1], values.shape)
                for key, values in a.items()
                if key.startswith("state/")
            },
        ),
    },
)
SHARES = label(
    "gap",
    {
        "gap: shares with no group left out": share(fill((slice(None), -1), 0)),
        "gap: shares between groups left out": share(
            lambda table: np.where(np.arange(len(table)) == len(table) - 1, table, 0)
        ),
        "gap: one share for both groups": share(lambda table: (table + table.T) / 2),
        "gap: every entry of share counts": around("gap", lambda call, a, k: every_entry(a, k)),
        "gap: the last row of share for the last column": share(
            lambda table: np.concatenate((table[:, :-1], table[-1:].T), axis=1)
        ),
        "gap: without the strength": change_keywords(
            "gap", lambda k: {"strength": dict.fromkeys(k["strength"], 1.0)}
        ),
    },
)


def every_entry(a, k):
    """Use the diagonal and the last row of share, too."""
    from issref.verify.suite import long_double

    found = groups.iss_groups(reference_port._layout(k["layout"]), k["strength"])
    squared_norms, strengths = long_double.shared_squared_norms(a, found), found.spread(k["strength"])
    table, none = a["share"].astype(float), np.zeros(found.count + 1, bool)
    gap, objective, norms = reference.duality_gap(squared_norms, np.append(strengths, 0.0), table, none)
    dual = np.sqrt(((squared_norms + np.eye(len(table))) * table**2).sum(axis=1))
    parts = {"norms": found.split(norms[:-1]), "dual": found.split(dual[:-1])}
    return {"gap": np.array(gap), "objective": np.array(objective)} | {
        f"{name}/{space}": values for name, part in parts.items() for space, values in part.items()
    }


# ---------------------------------------------------------------- memory


def overwrites(ops, name, value=0.0, only=None):
    """Return the right outputs, but leave other numbers in an input."""

    def change(call, a, k):
        outputs = {key: values.copy() for key, values in call(a).items()}
        for key in [key for key in a if key == name or (only and key.startswith(only))]:
            a[key][...] = value
        return outputs

    return around(ops, change, first=name)


def keeps(ops, name, then):
    """Remember something of the last call of the same op: then(call, inputs, last inputs, last outputs)."""
    last = {}

    def port(case, op, a, k):
        mine = {key: values.copy() for key, values in a.items()}
        outputs = then(lambda a: answer(case, op, a, k), a, *last.get(case, (a, None)))
        last.clear()
        last[case] = mine, {key: values.copy() for key, values in outputs.items()}
        return outputs

    return Mutant(ops, port, first=name)


def adds_up(name):
    return lambda call, a, _, before: (after := call(a)) | ({name: after[name] + before[name]} if before else {})


def goes_on(**states):
    return lambda call, a, _, before: call(
        {**a, **{state: before[output] for state, output in states.items()}} if before else a
    )


MEMORY = {
    **{
        f"lstm: {name} is overwritten": overwrites("lstm", name)
        for name in ("x", "h0", "c0", "kernel", "bias", "dhidden", "dh", "dc")
    },
    "rhn: s0 is overwritten": overwrites("rhn", "s0"),
    "dropout: x is overwritten": overwrites("dropout", "x"),
    "dropout: dy is overwritten": overwrites("dropout", "dy"),
    "cross-entropy: logits are overwritten": overwrites("cross_entropy", "logits"),
    "cross-entropy: targets are overwritten": overwrites("cross_entropy", "targets", 0),
    "clip: the gradients are overwritten": overwrites("clip", "a"),
    "prox: the weights are overwritten": overwrites("prox", "*kernel", only=("lstm", "micro")),
    "penalty: the weights are overwritten": overwrites("penalty", "*kernel", only=("lstm", "micro")),
    "train: the parameters are overwritten": overwrites("train", "params/*", only="params/"),
    "train: the state is overwritten": overwrites("train", "state/*", only="state/"),
    "compact: the weights are overwritten": overwrites("compact", "*kernel", only=("lstm", "micro")),
    "gap: share is overwritten": overwrites("gap", "share"),
    "stacked: x is overwritten": overwrites("stacked", "x"),
    "bidirectional: lengths are overwritten": overwrites("bidirectional", "lengths", 1),
    "lstm: the state goes on from call to call": keeps("lstm", "hidden", goes_on(h0="h", c0="c")),
    "lstm: dkernel adds up from call to call": keeps("lstm", "dkernel", adds_up("dkernel")),
    "lstm: dbias adds up from call to call": keeps("lstm", "dbias", adds_up("dbias")),
    "rhn: the state goes on from call to call": keeps("rhn", "hidden", goes_on(s0="s")),
    "rhn: dkernel0 adds up from call to call": keeps("rhn", "dkernel0", adds_up("dkernel0")),
    "stacked: lstm0/dkernel adds up from call to call": keeps(
        "stacked", "lstm0/dkernel", adds_up("lstm0/dkernel")
    ),
    "cross-entropy: dlogits adds up from call to call": keeps("cross_entropy", "dlogits", adds_up("dlogits")),
    "train: the state goes on from call to call": keeps(
        "train",
        "loss",
        lambda call, a, _, before: call(
            {**a, **{key: before[key] for key in a if key.startswith("state/")}} if before else a
        ),
    ),
    "train: the parameters go on from call to call": keeps(
        "train",
        "loss",
        lambda call, a, _, before: call(
            {**a, **{key: before[key] for key in a if key.startswith("params/")}} if before else a
        ),
    ),
}


def nan_in(ops, name, index):
    def change(o, a, k):
        if name not in o or not o[name].size:
            return {}
        spoiled = o[name].copy()
        spoiled.flat[index] = np.nan
        return {name: spoiled}

    return change_outputs(ops, change)._replace(first=name)


NANS = {
    f"{op}: NaN in {name}": nan_in(op, name, index)
    for op, name, index in (
        ("lstm", "dkernel", -1),
        ("lstm", "hidden", -1),
        ("rhn", "dx", 0),
        ("prox", "objective", 0),
        ("norms", "norms/lstm1", -1),
        ("penalty", "d/lstm0/kernel", 3),
        ("train", "state/lstm0/c", 0),
        ("clip", "norm", 0),
        ("gap", "dual/lstm0", 0),
    )
}

# ---------------------------------------------------------------- what porters of other frameworks report

TORCH = [0, 2, 1, 3]  # input, forget, candidate, output: its own inverse


def interleaved(columns):
    """Read (..., 4H) as (..., H, 4)."""
    return columns.reshape(*columns.shape[:-1], -1, 4).swapaxes(-1, -2).reshape(columns.shape)


def rounded(bits):
    """Round to a mantissa of fewer bits, as tensor cores do with the factors of a product."""

    def change(values):
        number = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
        low = np.uint64(23 - bits)
        half = np.uint64(1) << (low - np.uint64(1))
        kept = ((number + half) >> low) << low
        return kept.astype(np.uint32).view(np.float32).astype(values.dtype).reshape(values.shape)

    return change


def imprecise(bits):
    change = rounded(bits)
    return lambda a: {name: change(a[name]) for name in ("x", "kernel")}


def truncated(steps):
    """Stop the gradient through the state after each `steps` steps."""
    return (
        "valid = t < lengths[:, None]\n",
        f"valid = t < lengths[:, None]\n        if (t + 1 if not reverse else t) % {steps} == 0"
        f" and (t + 1 != len(gates) if not reverse else t > 0):\n            dh, dc = 0 * dh, 0 * dc\n",
    )


PORTERS = {
    "lstm: gates interleaved": change_inputs(
        "lstm",
        lambda a: {"kernel": interleaved(a["kernel"]), "bias": interleaved(a["bias"])},
        "gates read as interleaved columns",
    ),
    "lstm: gates interleaved in the kernel alone": change_inputs(
        "lstm",
        lambda a: {"kernel": interleaved(a["kernel"])},
        "gates read as interleaved columns, in the kernel alone",
    ),
    "lstm: gates interleaved in the bias alone": change_inputs(
        "lstm", lambda a: {"bias": interleaved(a["bias"])}, "gates read as interleaved columns, in the bias alone"
    ),
    **{
        f"lstm: order of {framework} in the {part} alone": change_inputs(
            "lstm",
            lambda a, part=part, order=order: {part: blocks(a[part], order)},
            f"gates read in the order {names}, in the {part} alone",
        )
        for framework, order, names in (
            ("PyTorch", [0, 2, 1, 3], "input, forget, candidate, output (PyTorch, Keras)"),
            ("ONNX", [0, 3, 2, 1], "input, output, forget, candidate (ONNX)"),
        )
        for part in ("kernel", "bias")
    },
    "lstm: TF32 in the products": change_inputs("lstm", imprecise(10), "factors of the products rounded to TF32"),
    "lstm: bfloat16 in the products": change_inputs(
        "lstm", imprecise(7), "factors of the products rounded to bfloat16"
    ),
    "lstm: float16 weights": change_inputs(
        "lstm",
        lambda a: {"kernel": a["kernel"].astype(np.float16).astype(a["kernel"].dtype)},
        "kernel rounded to float16",
    ),
    "lstm: float32 arithmetic": around(
        "lstm",
        lambda call, a, k: {
            key: values.astype(np.float64)
            for key, values in call(
                {name: each.astype(np.float32) if each.dtype.kind == "f" else each for name, each in a.items()}
            ).items()
        },
        "computed in float32",
    ),
}
PORTERS = label("hidden", PORTERS) | {
    "lstm: dh0 and dc0 are zero": change_outputs(
        "lstm", lambda o, a, k: {"dh0": 0 * o["dh0"], "dc0": 0 * o["dc0"]}, "dh0 and dc0 are zero"
    )._replace(first="dh0"),
    "lstm: weight gradients averaged over the steps": change_outputs(
        "lstm",
        lambda o, a, k: {name: o[name] / len(a["x"]) for name in ("dkernel", "dbias")},
        "weight gradients averaged over the steps",
    )._replace(first="dkernel"),
    "lstm: all gradients averaged over the steps": change_outputs(
        "lstm",
        lambda o, a, k: {name: o[name] / len(a["x"]) for name in ("dx", "dh0", "dc0", "dkernel", "dbias")},
        "all gradients averaged over the steps",
    )._replace(first="dx"),
    "lstm: all gradients averaged over the batch": change_outputs(
        "lstm",
        lambda o, a, k: {name: o[name] / a["x"].shape[1] for name in ("dx", "dh0", "dc0", "dkernel", "dbias")},
        "all gradients averaged over the batch",
    )._replace(first="dx"),
    "lstm: backward truncated after each step": label(
        "dx", edits("lstm", reference, "lstm_backward", {"t": truncated(1)}, known="backward truncated to 1 step")
    )["t"],
    "lstm: backward truncated after two steps": label(
        "dx", edits("lstm", reference, "lstm_backward", {"t": truncated(2)}, known="backward truncated to 2 steps")
    )["t"],
    "lstm: the state of step T - 1 is returned": around(
        "lstm", lambda call, a, k: call(a) | one_early(call, a, k), "h and c are those before the last step", "h"
    ),
}


def one_early(call, a, k):
    """Return the state before the last step of all sequences."""
    steps = len(a["x"])
    if k.get("reverse"):
        lengths = np.minimum(a.get("lengths", np.full(a["x"].shape[1], steps)) - 1, steps)
        shifted = {**a, "x": a["x"][1:], "dhidden": a["dhidden"][1:], "lengths": np.maximum(lengths, 0)}
    else:
        shifted = {**a, "x": a["x"][:-1], "dhidden": a["dhidden"][:-1]}
        if "lengths" in a:
            shifted["lengths"] = np.minimum(a["lengths"], steps - 1)
    if steps == 1:
        return {"h": a["h0"], "c": a["c0"]}
    before = call(shifted)
    return {"h": before["h"], "c": before["c"]}


def pair(*changes):
    """Apply several changes of inputs."""

    def both(a):
        for change in changes:
            a = {**a, **change(a)}
        return a

    return both


def swap(a):
    return {"h0": a["c0"], "c0": a["h0"]}


def torch_order(a):
    return {"kernel": blocks(a["kernel"], TORCH), "bias": blocks(a["bias"], TORCH)}


def state_first(a):
    size = a["h0"].shape[1]
    return {"kernel": np.concatenate((a["kernel"][size:], a["kernel"][:size]))}


PAIRS = label(
    "hidden",
    {
        f"lstm: {' and '.join(names)}": change_inputs("lstm", pair(*changes), " and ".join(names))
        for names, changes in (
            (
                ("gates read in the order input, forget, candidate, output (PyTorch, Keras)", "bias left out"),
                (torch_order, lambda a: {"bias": 0 * a["bias"]}),
            ),
            (
                (
                    "gates read in the order input, forget, candidate, output (PyTorch, Keras)",
                    "h0 and c0 exchanged",
                ),
                (torch_order, swap),
            ),
            (
                (
                    "gates read in the order input, forget, candidate, output (PyTorch, Keras)",
                    "rows of the state read before rows of the input",
                ),
                (torch_order, state_first),
            ),
            (
                ("rows of the state read before rows of the input", "bias added twice"),
                (state_first, lambda a: {"bias": 2 * a["bias"]}),
            ),
            (("rows of the state read before rows of the input", "h0 and c0 exchanged"), (state_first, swap)),
            (
                ("bias halved", "first state left out"),
                (lambda a: {"bias": a["bias"] / 2}, lambda a: {"h0": 0 * a["h0"], "c0": 0 * a["c0"]}),
            ),
        )
    },
)

# ---------------------------------------------------------------- patterns


def scaled(factor):
    return lambda values, a: values * factor(a)


SIZES = {
    "1/T": lambda a: 1 / len(a["x"]),
    "1/B": lambda a: 1 / a["x"].shape[1],
    "2": lambda a: 2.0,
    "1/2": lambda a: 0.5,
    "-1": lambda a: -1.0,
    "T": lambda a: float(len(a["x"])),
    "B": lambda a: float(a["x"].shape[1]),
}


def pattern(op, tensor, name, change):
    """Return the mutant whose tensor follows a pattern: change(expected, inputs) -> values."""
    known = f"{tensor} is {name}"
    return {
        f"{op}: {known}": change_outputs(
            op, lambda o, a, k: {tensor: change(o[tensor], a)} if tensor in o else {}, known
        )._replace(first=tensor)
    }


def factor(op, tensor, name, of=None):
    return pattern(op, tensor, f"{name} times the expected values", scaled(of or SIZES[name]))


def right_in(step):
    def change(values, a):
        wrong = values + 1.0 + np.arange(values.size).reshape(values.shape)
        wrong[step] = values[step]
        return wrong

    return change


def wrong_when_padded(values, a):
    if "lengths" not in a:
        return values
    first = int(a["lengths"].min())
    return np.where((np.arange(len(values)) >= first)[:, None, None], values + 1.0, values)


def backwards(values, a):
    return values[::-1].copy()


def square_transposed(values, a):
    return values.T.copy() if values.shape == values.T.shape else values


def zero(values, a):
    return 0 * values


def other(op, tensor, source):
    known = f"{tensor} is the expected {source}"
    return {
        f"{op}: {known}": change_outputs(
            op, lambda o, a, k: {tensor: o[source].copy()} if tensor in o else {}, known
        )._replace(first=tensor)
    }


PATTERNS = {
    **pattern("lstm", "dx", "all zero", zero),
    **pattern("lstm", "c", "all zero", zero),
    **pattern("bidirectional", "dx", "all zero", zero),
    **pattern("stacked", "lstm0/dkernel", "all zero", zero),
    **pattern("stacked", "dx", "all zero", zero),
    **pattern("rhn", "ds0", "all zero", zero),
    **pattern("rhn", "dkernel0", "all zero", zero),
    **pattern("dropout", "dx", "all zero", zero),
    **pattern("cross_entropy", "dlogits", "all zero", zero),
    **pattern("penalty", "d/lstm0/kernel", "all zero", zero),
    **factor("lstm", "dkernel", "1/T"),
    **factor("lstm", "dbias", "1/B"),
    **factor("lstm", "dx", "2"),
    **factor("lstm", "dh0", "-1"),
    **factor("bidirectional", "fw/dkernel", "1/B"),
    **factor("bidirectional", "dx", "1/2"),
    **factor("stacked", "lstm1/dkernel", "1/T"),
    **factor("rhn", "dkernel0", "1/T"),
    **factor("rhn", "dbias1", "1/B"),
    **factor("rhn", "dx", "2"),
    **factor("dropout", "y", "2"),
    **factor("cross_entropy", "loss", "1/T", lambda a: 1 / len(a["targets"])),
    **factor("cross_entropy", "dlogits", "B", lambda a: float(a["targets"].shape[1])),
    **factor("cross_entropy", "dlogits", "-1"),
    **factor("penalty", "value", "2"),
    **factor("penalty", "d/lstm0/kernel", "-1"),
    **factor("norms", "norms/lstm0", "2"),
    **factor("gap", "gap", "2"),
    **factor("gap", "dual/lstm0", "1/2"),
    **factor("clip", "norm", "2"),
    **pattern("lstm", "hidden", "right in the last step only", right_in(-1)),
    **pattern("lstm", "hidden", "right in the first step only", right_in(0)),
    **pattern("lstm", "dx", "right in the last step only", right_in(-1)),
    **pattern("lstm", "dx", "right in the first step only", right_in(0)),
    **pattern("rhn", "hidden", "right in the first step only", right_in(0)),
    **pattern("rhn", "dx", "right in the last step only", right_in(-1)),
    **pattern("cross_entropy", "dlogits", "right in the last step only", right_in(-1)),
    **pattern("stacked", "hidden", "right in the last step only", right_in(-1)),
    **pattern("lstm", "hidden", "wrong from the first padded step on", wrong_when_padded),
    **pattern("lstm", "dx", "wrong from the first padded step on", wrong_when_padded),
    **pattern("bidirectional", "hidden", "wrong from the first padded step on", wrong_when_padded),
    **pattern("lstm", "dx", "in reversed order along axis 0", backwards),
    **pattern("rhn", "hidden", "in reversed order along axis 0", backwards),
    **pattern("cross_entropy", "dlogits", "in reversed order along axis 0", backwards),
    **pattern("norms", "norms/lstm0", "in reversed order along axis 0", backwards),
    **other("lstm", "h", "c"),
    **other("lstm", "dh0", "dc0"),
    **other("stacked", "lstm0/h", "lstm0/c"),
    **other("rhn", "s", "ds0"),
    **other("gap", "gap", "objective"),
}

# ---------------------------------------------------------------- layers, groups and training

LSTM_OP, CROSS_ENTROPY = lstm.lstm, losses.linear_cross_entropy


def forgetting(*arguments, **keywords):
    return LSTM_OP(*arguments, **{"forget_bias": 1.0, **keywords})


def halved(*arguments, targets):
    loss, backward = CROSS_ENTROPY(*arguments, targets=targets)
    return loss, lambda dloss: backward(dloss) / 2


OTHERS = {
    "bidirectional: the states of both directions exchanged": change_inputs(
        "bidirectional",
        lambda a: {
            f"{one}/{name}": a[f"{one}/{other}"]
            for one in ("fw", "bw")
            for name, other in (("h0", "c0"), ("c0", "h0"))
        },
    )._replace(first="hidden"),
    "bidirectional: no forward gradient at h": change_inputs(
        "bidirectional", lambda a: {"fw/dh": 0 * a["fw/dh"]}
    )._replace(first="dx"),
    "bidirectional: dhidden of both exchanged": around(
        "bidirectional", lambda call, a, k: call({**a, "dhidden": a["dhidden"][..., ::-1].copy()}), first="dx"
    ),
    "stacked: states of the first layer left out": change_inputs(
        "stacked", lambda a: {"lstm0/h0": 0 * a["lstm0/h0"], "lstm0/c0": 0 * a["lstm0/c0"]}
    )._replace(first="*h"),
    "stacked: no gradient at the second layer's c": change_inputs(
        "stacked", lambda a: {"lstm1/dc": 0 * a["lstm1/dc"]}
    )._replace(first="*d*"),
    "rhn: the state mask of the first sequence for all": change_inputs(
        "rhn",
        lambda a: {"state_mask": a["state_mask"][:1].repeat(len(a["s0"]), axis=0)} if "state_mask" in a else {},
    )._replace(first="hidden"),
    "rhn: the input mask of the first sequence for all": change_inputs(
        "rhn",
        lambda a: {"input_mask": a["input_mask"][:1].repeat(len(a["s0"]), axis=0)} if "input_mask" in a else {},
    )._replace(first="hidden"),
    "train: the LSTM has a forget_bias of 1": replace("train", lstm, "lstm", forgetting)._replace(first="loss"),
    "train: half the gradient": replace("train", losses, "linear_cross_entropy", halved)._replace(
        first="*params/*"
    ),
    "compact: dead units are zeroed, not cut": alive_after(np.ones_like)._replace(first="alive/*"),
    **label(
        "*params/*",
        edits(
            "train",
            updates,
            "prox_update",
            {
                "prox step: half the strength": ("rate * strengths", "rate / 2 * strengths"),
                "prox step: the rate squared": ("rate * strengths", "rate**2 * strengths"),
            },
        ),
    ),
}
EDGE_TABLES = (READERS, EDGES, MAGNITUDES, WINDOWS, SHARES, MEMORY, NANS, PORTERS, PAIRS, PATTERNS, OTHERS)
