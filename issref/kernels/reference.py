"""What every fast loop computes, in plain NumPy; complex and long double pass through.

Matrices of weights come with two vectors of group ids, one for its rows and one for its columns; -1 means
"no group" and, as a negative index, lands on the last row or column of a pair table. See `iss.groups`.
"""

import numpy as np

# ---------------------------------------------------------------- groups of weights


def add_pair_energies(weights, rows, columns, table):
    """table[g, h] += sum of w^2 over the weights whose row is in group g and whose column is in group h."""
    squares = weights.astype(table.dtype) ** 2
    np.add.at(table, np.ix_(rows, columns), squares)


def scale_by_pair(weights, rows, columns, factors):
    """w[i, j] * factors[row group of i, column group of j], in the dtype of w."""
    return (weights * factors[np.ix_(rows, columns)]).astype(weights.dtype)


# ---------------------------------------------------------------- the proximal operator's dual (iss.prox)


def plus_transpose(table):
    """table + table^T, for a square table of pairs of groups."""
    return table + table.T


def sweep(energy, strength, share):
    """One round of exact block maximisation of the dual over all groups, in order; updates share in place.

    rho_g^2 = sum_h energy[g, h] (1 - share[h, g])^2;  share[g, h] = min(1, strength_g / rho_g) (1 - share[h, g])
    """
    for g in range(len(strength)):
        rest = 1 - share[:, g]
        rho = np.sqrt(np.sum(energy[g] * rest**2))
        share[g] = rest * (1.0 if rho <= strength[g] else strength[g] / rho)


def duality_gap(energy, strength, share, dead):
    """Primal minus dual for the weights w = keep * v, keep = 1 - share - share^T, and 0 in dead groups.

    Returns gap = sum_g (strength_g |w_g| - <xi_g, w>) + 1/2 |w - (v - sum xi)|^2, the primal objective
    1/2 |w - v|^2 + sum_g strength_g |w_g|, and the norms |w_g|.
    """
    rest = 1 - share - share.T
    keep = np.where(dead[:, None] | dead, 0.0, rest)
    norms = np.sqrt(np.sum(energy * keep**2, axis=1))
    complementarity = strength @ norms - np.sum(energy * share * keep)
    gap = complementarity + np.sum(energy * (keep - rest) ** 2) / 4  # each pair stands in the table twice
    return gap, np.sum(energy * (1 - keep) ** 2) / 4 + strength @ norms, norms


# ---------------------------------------------------------------- an LSTM, one step and all steps (ops.lstm)


def sigmoid(x):
    """1 / (1 + exp(-x)), written so that large |x| overflow nowhere."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def lstm_cell(preactivation, cell):
    """One step from preactivations (B, 4H), gate order input, candidate, forget, output, and c (B, H).

    i, g, f, o = sigmoid, tanh, sigmoid, sigmoid;  c' = f c + i g;  h' = o tanh(c').
    Returns the gates (B, 4H), c' and h' (B, H).
    """
    i, g, f, o = np.split(preactivation, 4, axis=1)
    i, g, f, o = sigmoid(i), np.tanh(g), sigmoid(f), sigmoid(o)
    cell = f * cell + i * g
    return np.concatenate((i, g, f, o), axis=1), cell, o * np.tanh(cell)


def lstm_cell_backward(dhidden, dcell, gates, previous, cell):
    """Gradients of the preactivations (B, 4H) and of the previous cell (B, H), from those of h' and c'."""
    i, g, f, o = np.split(gates, 4, axis=1)
    squashed = np.tanh(cell)
    dcell = dcell + dhidden * o * (1 - squashed**2)
    di, dg, df, do = dcell * g, dcell * i, dcell * previous, dhidden * squashed
    dpreactivation = (di * i * (1 - i), dg * (1 - g**2), df * f * (1 - f), do * o * (1 - o))
    return np.concatenate(dpreactivation, axis=1), dcell * f


def lstm_forward(gates, h, c, weights, lengths, reverse):
    """The steps of an LSTM from h and c (B, H), with recurrent weights (H, 4H).

    `gates` (T, B, 4H) comes with what the input adds to the preactivations, x_t W + b, and leaves as the gates. A
    sequence takes part in its first `lengths` steps: after them its state stays, its output is 0. Returns hidden
    (T, B, H), h and c before each step, c after it as if every sequence took part, then the last h and c.
    """
    steps = len(gates)
    hidden, h_before, c_before, c_after = (np.empty((steps, *h.shape), h.dtype) for _ in range(4))
    for t in reversed(range(steps)) if reverse else range(steps):
        valid = t < lengths[:, None]
        h_before[t], c_before[t] = h, c
        gates[t], c_after[t], hidden[t] = lstm_cell(gates[t] + h @ weights, c)
        h, c = np.where(valid, hidden[t], h), np.where(valid, c_after[t], c)
        hidden[t] = np.where(valid, hidden[t], 0)
    return hidden, h_before, c_before, c_after, h, c


def lstm_backward(dhidden, dh, dc, gates, c_before, c_after, weights, lengths, reverse):
    """Backpropagation through the steps: gradients of the preactivations (T, B, 4H), and of the first h and c.

    What arrives at the state of a sequence that has ended goes on to the state before.
    """
    steps = len(gates)
    dgates = np.empty(gates.shape, dhidden.dtype)
    for t in range(steps) if reverse else reversed(range(steps)):
        valid = t < lengths[:, None]
        dpreactivation, dprevious = lstm_cell_backward(dhidden[t] + dh, dc, gates[t], c_before[t], c_after[t])
        dgates[t] = np.where(valid, dpreactivation, 0)
        dh, dc = np.where(valid, dgates[t] @ weights.T, dh), np.where(valid, dprevious, dc)
    return dgates, dh, dc


# ---------------------------------------------------------------- one micro-layer of a highway network (ops.rhn)


def highway_cell(preactivation, state):
    """One micro-layer from preactivations (B, 2W), candidate then transform, and s (B, W).

    h, t = tanh, sigmoid;  s' = s + t (h - s), so the carry is 1 - t.  Returns the gates (B, 2W) and s' (B, W).
    """
    h, t = np.split(preactivation, 2, axis=1)
    h, t = np.tanh(h), sigmoid(t)
    return np.concatenate((h, t), axis=1), state + t * (h - state)


def highway_cell_backward(dstate, gates, previous):
    """Gradients of the preactivations (B, 2W) and, through the carry, of s before (B, W), from that of s'."""
    h, t = np.split(gates, 2, axis=1)
    dh, dt = dstate * t, dstate * (h - previous)
    return np.concatenate((dh * (1 - h**2), dt * t * (1 - t)), axis=1), dstate * (1 - t)


# ---------------------------------------------------------------- embedding and softmax (ops.basic, ops.losses)


def add_rows(table, ids, rows):
    """table[ids[n]] += rows[n]; ids may repeat."""
    np.add.at(table, ids, rows)


def log_sum_exp(logits):
    """log sum_k exp(logits[n, k]) of each row n, as m + log sum exp(logits - m) with m the largest (real part)."""
    shift = np.real(logits).max(axis=1, keepdims=True).astype(logits.dtype)
    return shift[:, 0] + np.log(np.sum(np.exp(logits - shift), axis=1))


def softmax_minus_target(logits, log_sum, targets, scale):
    """scale * (softmax(logits) - one-hot(targets)): the gradient of scale * cross-entropy in the logits."""
    gradient = scale * np.exp(logits - log_sum[:, None])
    gradient[np.arange(len(targets)), targets] -= scale
    return gradient
