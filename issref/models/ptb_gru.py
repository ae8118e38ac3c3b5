"""The stacked GRU language model: `ptb_lstm` with other layers, in both conventions of the reset gate.

Tutorial: tutorials/7_highways.py.
"""

from functools import partial

import numpy as np
from jaxtyping import Integer

from issref.iss.layout import Axis, Layout, Params
from issref.models.ptb_lstm import (
    EMBEDDING,
    Config,
    configure,
    describe_sizes,
    draw_masks,
    init_params,
    mask_layout,
    multiply_adds,
    network,
    released_thresholded,
    spaces,
    stack,
)
from issref.ops.basic import linear
from issref.ops.gru import GATES, gru
from issref.ops.losses import linear_cross_entropy

__all__ = [
    "EMBEDDING", "GATES", "NAME", "READERS", "Config", "configure", "describe", "draw_masks", "gru_axes",
    "init_params", "layout", "logits", "loss", "mask_layout", "multiply_adds", "readers_of",
    "released_thresholded", "spaces", "state_layout", "zero_state",
]  # fmt: skip
NAME = "gru"
READERS = (("gru*/kernel", 0), ("softmax/kernel", 0))  # as in the LSTM: the recurrent row, rows of the next kernel


def describe(config: Config) -> str:
    """Return the model's sizes as a phrase."""
    return f"GRU of {describe_sizes(config)}"


def gru_axes(layer: str, inputs: Axis, reset_after: bool = True) -> dict[str, tuple[Axis, ...]]:
    """Return the axes of one GRU layer; `inputs` are the spaces of its input, end to end."""
    bias = (3 + reset_after) * (f"~{layer}",)
    return {f"{layer}/kernel": ((*inputs, layer), 3 * (layer,)), f"{layer}/bias": (bias,)}


def layout(config: Config, reset_after: bool = True) -> Layout:
    """Return the layout of embed -> gru0 -> gru1 ... -> softmax over the words; no weight is shared or tied."""
    return stack(config, NAME, partial(gru_axes, reset_after=reset_after))


def readers_of(layout: Layout) -> tuple[tuple[str, int], ...]:
    """Return `READERS`, which are the same for every layout."""
    return READERS


def state_layout(layout: Layout, batch: int) -> Layout:
    """Return the layout of the carried state, h (batch, H) of each layer, so that `compact` can cut it."""
    axes = {f"{name}/h": (("batch",), (f"~{name}",)) for name in spaces(layout.axes)}
    return Layout(axes, {**layout.sizes, "batch": batch})


def zero_state(params: Params, batch: int) -> Params:
    """Return a zero state (batch, H) for params of any widths, in their dtype."""
    kernels = {name: params[f"{name}/kernel"] for name in spaces(params)}
    return {
        f"{name}/h": np.zeros((batch, kernel.shape[1] // len(GATES)), kernel.dtype)
        for name, kernel in kernels.items()
    }


def _layer(x, h, kernel, bias):
    """Run a layer; the reset acts after the product if the bias is wider than the kernel."""
    return gru(x, h, kernel, bias, reset_after=len(bias) > kernel.shape[1])


def logits(params: Params, state: Params, *, tokens: Integer[np.ndarray, "T B"], masks: Params | None = None):
    """Compute unnormalised log probabilities of the next word, (T, B, V), and the state, as in `ptb_lstm`."""
    return network(_layer, "h", linear, params, state, tokens, masks)


def loss(
    params: Params,
    state: Params,
    *,
    tokens: Integer[np.ndarray, "T B"],
    targets: Integer[np.ndarray, "T B"],
    masks: Params | None = None,
):
    """Compute the cross-entropy in nats, as in `ptb_lstm`: the sum over the steps, the mean over the batch."""
    return network(_layer, "h", partial(linear_cross_entropy, targets=targets), params, state, tokens, masks)
