"""A step-by-step LSTM and its gradients, with optional mistakes; it shares no code with `issref.ops`."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from issref.iss.layout import Params


def sigmoid(z: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-z)), without overflow."""
    return 1 / (1 + np.exp(-np.clip(z, -700, None)))


class Wrong(NamedTuple):
    """The functions and constants of the naive LSTM; the defaults are right."""

    gate: Callable = sigmoid
    candidate: Callable = np.tanh
    squash: Callable = np.tanh  # of the cell, in the output
    forget: Callable = lambda f, i: f
    slope: Callable = lambda squashed: 1 - squashed**2
    old_cell: bool = False  # h = o tanh(c_{t-1})
    early: bool = False  # hidden[t] = h_{t-1}
    repeat: bool = False  # a sequence that has ended repeats its last output
    late_rows: bool = False  # dkernel from h_t, not h_{t-1}
    through_h: float = 1.0
    through_c: float = 1.0
    stop: int = 0  # the gradient of the state is stopped after every so many steps, if not 0


RIGHT = Wrong()


def naive_lstm(given: Params, *, forget_bias: float = 0.0, reverse: bool = False, wrong: Wrong = RIGHT) -> Params:
    """Return the outputs and gradients of  [i g f o] = [x_t, h] K + b,  c = f c + i g,  h = o tanh(c).

    See `ops.lstm` for names and shapes. The first equation gives the gates before their nonlinearities.
    """
    x, h, c, kernel, bias = (given[name] for name in ("x", "h0", "c0", "kernel", "bias"))
    steps, _, inputs = x.shape
    valid = (np.arange(steps)[:, None] < given.get("lengths", steps))[..., None]
    hidden, tape = np.zeros((*x.shape[:2], h.shape[1])), []
    for t in range(steps)[::-1] if reverse else range(steps):
        rows, h_before, c_before = np.concatenate((x[t], h), axis=1), h, c
        i, g, f, o = np.split(rows @ kernel + bias, 4, axis=1)
        i, g, o = wrong.gate(i), wrong.candidate(g), wrong.gate(o)
        f = wrong.forget(wrong.gate(f + forget_bias), i)
        after = f * c + i * g
        h = np.where(valid[t], o * wrong.squash(c if wrong.old_cell else after), h)
        c = np.where(valid[t], after, c)
        hidden[t] = np.where(valid[t], h_before if wrong.early else h, wrong.repeat * h)
        rows = np.concatenate((x[t], h), axis=1) if wrong.late_rows else rows
        tape.append((t, rows, c_before, after, i, g, f, o))

    dx, dh, dc = np.zeros(x.shape), given["dh"], given["dc"]
    dkernel, dbias = np.zeros(kernel.shape), np.zeros(bias.shape)
    for t, rows, c_before, after, i, g, f, o in reversed(tape):
        if wrong.stop and (t if reverse else t + 1) % wrong.stop == 0 and t != (0 if reverse else steps - 1):
            dh, dc = 0 * dh, 0 * dc
        dout, squashed = np.where(valid[t], dh + given["dhidden"][t], 0), np.tanh(after)
        dcell = np.where(valid[t], dc, 0) + dout * o * wrong.slope(squashed)
        di, df, do = dcell * g * i * (1 - i), dcell * c_before * f * (1 - f), dout * squashed * o * (1 - o)
        dsum = np.concatenate((di, dcell * i * (1 - g**2), df, do), axis=1)
        drows = dsum @ kernel.T
        dx[t], dh = drows[:, :inputs], np.where(valid[t], wrong.through_h * drows[:, inputs:], dh)
        dc = np.where(valid[t], wrong.through_c * dcell * f, dc)
        dkernel, dbias = dkernel + rows.T @ dsum, dbias + dsum.sum(axis=0)
    return {"hidden": hidden, "h": h, "c": c, "dx": dx, "dh0": dh, "dc0": dc, "dkernel": dkernel, "dbias": dbias}
