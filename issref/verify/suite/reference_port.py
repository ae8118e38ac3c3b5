"""issref as a port: its answers to the cases of the suite. In long double, they are the expected values.

    python -m issref.crosscheck port issref.verify.suite.reference_port:answer

A port is a function of a case's name, its op, its inputs by name and its keywords. It returns the outputs by name.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from issref import kernels
from issref.iss.compact import compact
from issref.iss.groups import alive, group_norms, iss_groups
from issref.iss.layout import Layout, Params
from issref.iss.penalty import penalty
from issref.iss.prox import prox
from issref.models import LANGUAGE_MODELS
from issref.ops.basic import dropout
from issref.ops.gru import gru
from issref.ops.losses import cross_entropy
from issref.ops.lstm import lstm
from issref.ops.rhn import rhn
from issref.training.checkpoint import add_prefix, strip_prefix
from issref.training.optimizers import clip_scale, global_norm
from issref.training.updates import Penalty, clipped_sgd, prox_update, released_update
from issref.verify.suite import long_double

Outputs = dict[str, Any]
Strengths = Mapping[str, float]  # one for each space

LSTM = ("x", "h0", "c0", "kernel", "bias")
LSTM_GRADIENTS = ("dx", "dh0", "dc0", "dkernel", "dbias")
GRU = ("x", "h0", "kernel", "bias")


def answer(case: str, op: str, inputs: Params, keywords: Mapping[str, Any]) -> Params:
    """Return the outputs of a case, with floating point numbers in the dtype of its inputs."""
    dtype = next(values.dtype for values in inputs.values() if values.dtype.kind == "f")
    outputs = {name: np.asarray(values) for name, values in OPS[op](inputs, **keywords).items()}
    return {name: values.astype(dtype) if values.dtype.kind == "f" else values for name, values in outputs.items()}


def _lstm(given: Params, **keywords) -> Params:
    (hidden, h, c), backward = lstm(*(given[name] for name in LSTM), lengths=given.get("lengths"), **keywords)
    gradients = backward(given["dhidden"], given["dh"], given["dc"])
    return {"hidden": hidden, "h": h, "c": c, **dict(zip(LSTM_GRADIENTS, gradients, strict=True))}


def _gru(given: Params, **keywords) -> Params:
    (hidden, h), backward = gru(*(given[name] for name in GRU), lengths=given.get("lengths"), **keywords)
    gradients = backward(given["dhidden"], given["dh"])
    return {"hidden": hidden, "h": h, **{f"d{name}": each for name, each in zip(GRU, gradients, strict=True)}}


def _bidirectional(given: Params) -> Params:
    """Run two LSTMs, the second in reverse; concatenate their outputs and add their gradients in x."""
    both, sides = {"x": given["x"], "lengths": given["lengths"]}, {}
    dfw, dbw = np.split(given["dhidden"], [given["fw/h0"].shape[1]], axis=-1)
    for direction, dhidden in {"fw": dfw, "bw": dbw}.items():
        inputs = {**strip_prefix(given, direction), **both, "dhidden": dhidden}
        sides[direction] = _lstm(inputs, reverse=direction == "bw")
    hidden, dx = ([side.pop(name) for side in sides.values()] for name in ("hidden", "dx"))
    return {"hidden": np.concatenate(hidden, axis=-1), "dx": dx[0] + dx[1], **add_prefix(**sides)}


def _stacked(given: Params) -> Params:
    """Run dropout, lstm0, dropout, lstm1, dropout."""
    outputs, backs = {}, []
    x, undrop = dropout(given["x"], mask=given["mask0"])
    for layer, mask in (("lstm0", "mask1"), ("lstm1", "mask2")):
        arguments = (given[f"{layer}/{name}"] for name in LSTM[1:])
        (x, outputs[f"{layer}/h"], outputs[f"{layer}/c"]), back = lstm(x, *arguments)
        x, back_drop = dropout(x, mask=given[mask])
        backs.append((layer, back, back_drop))
    dx = given["dhidden"]
    for layer, back, back_drop in reversed(backs):
        dx, *gradients = back(back_drop(dx), given[f"{layer}/dh"], given[f"{layer}/dc"])
        outputs |= {f"{layer}/{name}": dy for name, dy in zip(LSTM_GRADIENTS[1:], gradients, strict=True)}
    return {**outputs, "hidden": x, "dx": undrop(dx)}


def _rhn(given: Params) -> Params:
    weights = [f"{name}{d}" for d in range(sum("kernel" in name for name in given)) for name in ("kernel", "bias")]
    masks = {name: given.get(name) for name in ("input_mask", "state_mask")}
    (hidden, s), backward = rhn(given["x"], given["s0"], *(given[name] for name in weights), **masks)
    names = ("dx", "ds0", *(f"d{name}" for name in weights))
    return {"hidden": hidden, "s": s, **dict(zip(names, backward(given["dhidden"], given["ds"]), strict=True))}


def _dropout(given: Params) -> Params:
    y, backward = dropout(given["x"], mask=given["mask"])
    return {"y": y, "dx": backward(given["dy"])}


def _cross_entropy(given: Params) -> Params:
    loss, backward = cross_entropy(given["logits"], targets=given["targets"])
    return {"loss": loss, "dlogits": backward(given["dloss"][()])}


def _clip(given: Params, *, most: float) -> Outputs:
    norm: Any = (long_double.global_norm if _wide(given) else global_norm)(given)
    return {"norm": norm, **{name: clip_scale(norm, most) * values for name, values in given.items()}}


def _norms(given: Params, *, layout: Mapping, spaces: list[str]) -> Params:
    groups = iss_groups(_layout(layout), spaces)
    return add_prefix(norms=groups.split(group_norms(given, groups)))


def _penalty(given: Params, *, layout: Mapping, strength: Strengths, **convention) -> Outputs:
    groups = iss_groups(_layout(layout), strength)
    value, grads = penalty(given, groups, groups.spread(strength), **convention)
    return {"value": value, **add_prefix(d=grads)}


def _prox(given: Params, *, layout: Mapping, strength: Strengths) -> Outputs:
    groups = iss_groups(_layout(layout), strength)
    if _wide(given):
        after, dead = long_double.prox(given, groups, groups.spread(strength))
    else:
        after, (_, _, _, dead, _) = prox(given, groups, groups.spread(strength))
    moved = sum(np.sum((after[array] - given[array]) ** 2, dtype=after[array].dtype) for array in groups.ids)
    value = moved / 2 + penalty(after, groups, groups.spread(strength))[0]
    return {**after, **add_prefix(alive=groups.split(~dead)), "objective": value}


def _gap(given: Params, *, layout: Mapping, strength: Strengths, spaces: list[str] | None = None) -> Params:
    groups = iss_groups(_layout(layout), spaces or strength)
    squared_norms = long_double.shared_squared_norms(given, groups)
    strengths, dead = np.append(groups.spread(strength), 0.0), np.zeros(groups.count + 1, bool)
    share = given["share"].astype(squared_norms.dtype)  # a copy
    np.fill_diagonal(share, 0)  # no group shares weights with itself, and "no group" has no dual vector
    share[-1] = 0
    gap, objective, norms = kernels.duality_gap(squared_norms, strengths, share, dead)
    dual = np.sqrt((squared_norms * share**2).sum(axis=1))
    return {
        "gap": gap,
        "objective": objective,
        **add_prefix(norms=groups.split(norms[:-1]), dual=groups.split(dual[:-1])),
    }


def _train(given: Params, *, model: str, layout: Mapping, strength: Strengths, method: str, **settings) -> Params:
    """Train for as many steps as there are windows, with the state carried from one to the next.

    This is the update alone: it keeps biases and state of dead components (docs/method.md, row 18).
    """
    network, groups = LANGUAGE_MODELS[model], iss_groups(_layout(layout), strength)
    params, state, masks = (strip_prefix(given, name) for name in ("params", "state", "masks"))
    one, losses = params[network.EMBEDDING].dtype.type(1), []
    for step, (tokens, targets) in enumerate(zip(given["tokens"], given["targets"], strict=True)):
        drops = {name: values[step] for name, values in masks.items()}
        (loss, state), backward = network.loss(params, state, tokens=tokens, targets=targets, masks=drops)
        params = _update(method, params, backward(one)[0], groups, groups.spread(strength), **settings)
        losses.append(loss)
    return {"loss": np.array(losses), **add_prefix(params=params, state=state, alive=alive(params, groups))}


def _update(method: str, params: Params, grads: Params, groups, strengths, *, rate, clip, threshold=0.0) -> Params:
    if _wide(params):
        if method == "released":
            return long_double.released_update(params, grads, rate, clip, groups, strengths, threshold, params)
        return long_double.prox_update(params, grads, rate, clip, groups, strengths, None)[0]
    descend = clipped_sgd(clip)
    rule = released_update(descend, threshold, params) if method == "released" else prox_update(descend)
    return rule(params, grads, rate, Penalty(groups, strengths), {})[0]


def _compact(given: Params, *, layout: Mapping, spaces: list[str], readers: list | None = None) -> Params:
    pairs = None if readers is None else [(array, axis) for array, axis in readers]
    mask = alive(given, iss_groups(_layout(layout), spaces), pairs)
    return {**add_prefix(alive=mask), **compact(given, _layout(layout), mask)[0]}


def _layout(layout: Mapping) -> Layout:
    return Layout.from_json(json.dumps(layout))


def _wide(arrays: Params) -> bool:
    return any(values.dtype == np.longdouble for values in arrays.values())


OPS: dict[str, Callable[..., Outputs]] = {
    "lstm": _lstm, "bidirectional": _bidirectional, "stacked": _stacked, "gru": _gru, "rhn": _rhn,
    "dropout": _dropout, "cross_entropy": _cross_entropy, "clip": _clip, "norms": _norms, "penalty": _penalty,
    "prox": _prox, "gap": _gap, "compact": _compact, "train": _train,
}  # fmt: skip
