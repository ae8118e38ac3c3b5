"""Networks whose layouts are right: what `check_layout` must pass, and what the planted mistakes are made in."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from issref.iss.layout import Layout
from issref.models import bidaf, ptb_gru, ptb_lstm, ptb_rhn
from issref.models.bidaf_layers import Text
from issref.models.ptb_lstm import lstm_axes
from issref.ops.lstm import lstm
from issref.verify.formats import flax, keras, onnx, tf1, torch

T, B = 4, 2
RNG = np.random.default_rng(0)
X, TOKENS = RNG.normal(size=(T, B, 3)), RNG.integers(0, 6, (T, B))


class Network(NamedTuple):
    """The arguments of `check_layout`."""

    function: Callable[[dict], Any]
    layout: Layout
    spaces: tuple[str, ...]
    readers: tuple[tuple[str, int], ...]

    @property
    def params(self):
        return self.layout.allocate()


def run_lstm(params, layer, x, reverse=False):
    kernel, bias = params[f"{layer}/kernel"], params[f"{layer}/bias"]
    zero = np.zeros((x.shape[1], len(bias) // 4))
    return lstm(x, zero, zero, kernel, bias, reverse=reverse)[0][0]


def language_model(model, config, **options):
    layout = model.layout(config, **options)

    def function(params):
        return model.logits(params, model.zero_state(params, B), tokens=TOKENS)[0][0]

    return Network(function, layout, tuple(model.spaces(layout.axes)), model.readers_of(layout))


def answering():
    config = bidaf.Config(6, 4, 7, 2, 2, 3, 3)
    texts = [Text(RNG.integers(0, 6, (n, B)), RNG.integers(0, 7, (n, B, 4)), np.array([n, n - 1])) for n in (T, 3)]
    inputs = dict(zip(("context", "question"), texts, strict=True))

    def function(params):
        return bidaf.logits(params, **inputs, vectors=np.ones((1, 4)))[0]

    return Network(function, bidaf.layout(config), bidaf.LEARNED, bidaf.READERS)


def tied():
    """A language model whose embedding is the softmax kernel, so that the width of both is the LSTM's."""
    axes = {"embed": (("word",), ("h",)), **lstm_axes("h", ("h",)), "bias": (("~word",),)}

    def function(params):
        return run_lstm(params, "h", params["embed"][TOKENS]) @ params["embed"].T + params["bias"]

    return Network(function, Layout(axes, {"word": 6, "h": 4}), ("h",), (("h/kernel", 0), ("embed", 1)))


def residual():
    """Two LSTMs whose outputs are added, so that their units are one space."""
    axes = {"a/kernel": (("x", "h"), 4 * ("h",)), "a/bias": (4 * ("~h",),)}
    axes |= {"b/kernel": (("h", "h"), 4 * ("h",)), "b/bias": (4 * ("~h",),), "out": (("h",), ("y",))}

    def function(params):
        a = run_lstm(params, "a", X)
        return (a + run_lstm(params, "b", a)) @ params["out"]

    return Network(function, Layout(axes, {"x": 3, "h": 4, "y": 2}), ("h",), (("?/kernel", 0), ("out", 0)))


def summed():
    """Both directions added."""
    axes = {f"{way}/kernel": (("x", "h"), 4 * ("h",)) for way in ("fw", "bw")}
    axes |= {f"{way}/bias": (4 * ("~h",),) for way in ("fw", "bw")} | {"out": (("h",), ("y",))}

    def function(params):
        return sum(run_lstm(params, way, X, way == "bw") for way in ("fw", "bw")) @ params["out"]

    return Network(function, Layout(axes, {"x": 3, "h": 4, "y": 2}), ("h",), (("*w/kernel", 0), ("out", 0)))


def windows(x):
    """Return three steps end to end, (T - 2, B, 3 D)."""
    return np.concatenate((x[:-2], x[1:-1], x[2:]), axis=-1)


def crnn():
    """A convolution over time, both directions of an LSTM end to end, a linear layer."""
    axes = {"conv": (3 * ("x",), ("f",)), "conv/bias": (("~f",),)}
    axes |= {**lstm_axes("fw", ("f",)), **lstm_axes("bw", ("f",)), "out": (("fw", "bw"), ("y",))}

    def function(params):
        x = np.maximum(windows(X) @ params["conv"] + params["conv/bias"], 0)
        return np.concatenate([run_lstm(params, w, x, w == "bw") for w in ("fw", "bw")], axis=-1) @ params["out"]

    layout = Layout(axes, {"x": 3, "f": 3, "fw": 4, "bw": 4, "y": 2})
    return Network(function, layout, ("f", "fw", "bw"), (("?w/kernel", 0), ("out", 0)))


def convolved():
    """A convolution over the outputs of an LSTM."""
    axes = {**lstm_axes("h", ("x",)), "conv": (3 * ("h",), ("f",)), "out": (("f",), ("y",))}

    def function(params):
        return np.maximum(windows(run_lstm(params, "h", X)) @ params["conv"], 0) @ params["out"]

    layout = Layout(axes, {"x": 3, "h": 4, "f": 5, "y": 2})
    return Network(function, layout, ("h", "f"), (("h/kernel", 0), ("conv", 0), ("out", 0)))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=0)


def sequence_to_sequence():
    """Encoder and decoder with attention: the score of e and d is e W d, and [d, context] is read."""
    axes = {**lstm_axes("e", ("x",)), **lstm_axes("d", ("x",))}
    axes |= {"score": (("e",), ("d",)), "out": (("d", "e"), ("y",))}

    def function(params):
        e, d = run_lstm(params, "e", X), run_lstm(params, "d", X[:2])
        weights = softmax(np.einsum("sbe,ed,tbd->stb", e, params["score"], d))
        context = np.einsum("stb,sbe->tbe", weights, e)
        return np.concatenate((d, context), axis=-1) @ params["out"]

    readers = (("?/kernel", 0), ("score", 0), ("score", 1), ("out", 0))
    return Network(function, Layout(axes, {"x": 3, "e": 4, "d": 4, "y": 2}), ("e", "d"), readers)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru():
    """Reset after the product, in PyTorch's arrays: W (3H, D), R (3H, H), two biases."""
    axes = {"W": (3 * ("h",), ("x",)), "R": (3 * ("h",), ("h",)), "b": (3 * ("~h",),), "c": (3 * ("~h",),)}

    def function(params):
        h = np.zeros((B, len(params["c"]) // 3))
        for x in X:
            r, z, n = np.split(x @ params["W"].T + params["b"], 3, axis=1)
            hr, hz, hn = np.split(h @ params["R"].T + params["c"], 3, axis=1)
            update = sigmoid(z + hz)
            h = (1 - update) * np.tanh(n + sigmoid(r + hr) * hn) + update * h
        return h @ params["out"].T

    layout = Layout({**axes, "out": (("y",), ("h",))}, {"x": 3, "h": 4, "y": 2})
    return Network(function, layout, ("h",), (("R", 1), ("out", 1)))


def normalised():
    """A batch normalisation, which treats each unit alone: its scale, shift, mean and variance are cut."""
    axes = {**lstm_axes("h", ("x",)), **{f"norm/{name}": (("~h",),) for name in ("scale", "shift", "mean", "var")}}

    def function(params):
        scale, shift, mean, var = (params[f"norm/{name}"] for name in ("scale", "shift", "mean", "var"))
        y = (run_lstm(params, "h", X) - mean) / np.sqrt(var + 1e-5) * scale + shift
        return {"logits": y @ params["out"], "predicted": (y @ params["out"]).argmax(axis=-1)}

    layout = Layout({**axes, "out": (("h",), ("y",))}, {"x": 3, "h": 4, "y": 2})
    return Network(function, layout, ("h",), (("h/kernel", 0), ("out", 0)))


def spelled(dialect, readers):
    """Two layers in the arrays of a framework, with widths that are equal."""
    layout = dialect.layout((3, 4, 4))
    layout = Layout({**layout.axes, "out": (("lstm1",), ("y",))}, {**layout.sizes, "y": 2})

    def function(params):
        stack = dialect.to_reference({array: values for array, values in params.items() if array != "out"})
        return run_lstm(stack, "lstm1", run_lstm(stack, "lstm0", X)) @ params["out"]

    return Network(function, layout, ("lstm0", "lstm1"), (*readers, ("out", 0)))


RIGHT = {
    "lstm": language_model(ptb_lstm, ptb_lstm.Config(6, 3, (4,))),
    "stacked": language_model(ptb_lstm, ptb_lstm.Config(6, 4, (4, 5, 4))),
    "rhn": language_model(ptb_rhn, ptb_rhn.Config(6, 4, 2)),
    "rhn untied": language_model(ptb_rhn, ptb_rhn.Config(6, 4, 2, tied=False)),
    "gru": gru(),
    "gru stacked": language_model(ptb_gru, ptb_gru.Config(6, 3, (4, 5))),
    "gru, reset before": language_model(ptb_gru, ptb_gru.Config(6, 3, (4,)), reset_after=False),
    "bidaf": answering(),
    "crnn": crnn(),
    "convolution after": convolved(),
    "sequence to sequence": sequence_to_sequence(),
    "tied": tied(),
    "residual": residual(),
    "directions summed": summed(),
    "batch normalisation": normalised(),
    "tf1": spelled(tf1, (("*/weights", 0),)),
    "keras": spelled(keras, (("*kernel", 0),)),
    "flax": spelled(flax, (("*/i?/kernel", 0), ("*/h?/kernel", 0))),
    "onnx": spelled(onnx, (("*/W", 1), ("*/R", 1))),
    "torch": spelled(torch, (("weight_*", 1),)),
}
