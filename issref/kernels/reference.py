"""The definition of every kernel in plain NumPy, for all dtypes, complex and long double included.

A matrix of weights comes with two vectors of group ids, one for its rows and one for its columns. The id -1 means
"no group"; as an index it selects the last row or column of a table over pairs of groups. See `iss.groups`.
"""

import numpy as np

# ---------------------------------------------------------------- groups of weights


def add_pair_squared_norms(weights, rows, columns, table):
    """Add to table[g, h] the sum of w^2 over the weights whose row is in group g and column in group h."""
    squares = weights.astype(table.dtype) ** 2
    np.add.at(table, np.ix_(rows, columns), squares)


def scale_by_pair(weights, rows, columns, factors):
    """Return w[i, j] * factors[group of row i, group of column j], in the dtype of w."""
    return (weights * factors[np.ix_(rows, columns)]).astype(weights.dtype)


# ---------------------------------------------------------------- the proximal operator's dual (iss.dual)


def plus_transpose(table):
    """Return table + table^T for a square table over pairs of groups."""
    return table + table.T


def dual_block_pass(squared_norms, strength, share):
    """Maximise the dual exactly over one group after another, one round over all groups; changes `share`.

    rho_g^2 = sum_h S[g, h] (1 - share[h, g])^2;  share[g, h] = min(1, strength_g / rho_g) (1 - share[h, g])

    where S is `squared_norms`, and rho_g is the norm of what the other groups leave of v in group g.
    """
    for g in range(len(strength)):
        rest = 1 - share[:, g]
        rho = np.sqrt(np.sum(squared_norms[g] * rest**2))
        share[g] = rest * (1.0 if rho <= strength[g] else strength[g] / rho)


def duality_gap(squared_norms, strength, share, dead):
    """Return the duality gap, the objective and the norms |w_g| of the weights that belong to `share`.

    They are w = factor v, with factor = 1 - share - share^T, and 0 in dead groups. For them

        gap = sum_g (strength_g |w_g| - <xi_g, w>) + 1/2 |w - (v - sum_g xi_g)|^2,
        objective = 1/2 |w - v|^2 + sum_g strength_g |w_g|;

    the second term of the gap is 0 if no group is dead.
    """
    rest = 1 - share - share.T
    factor = np.where(dead[:, None] | dead, 0.0, rest)
    norms = np.sqrt(np.sum(squared_norms * factor**2, axis=1))
    complementarity = strength @ norms - np.sum(squared_norms * share * factor)
    gap = complementarity + np.sum(squared_norms * (factor - rest) ** 2) / 4  # 4: the table has each pair twice
    return gap, np.sum(squared_norms * (1 - factor) ** 2) / 4 + strength @ norms, norms


# ---------------------------------------------------------------- an LSTM, one step and all steps (ops.lstm)


def sigmoid(x):
    """Return 1 / (1 + exp(-x)), written with tanh, which does not overflow for large |x|."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def lstm_cell(preactivation, cell):
    """Compute one step from preactivations (B, 4H), in the order input, candidate, forget, output, and c (B, H).

    i, g, f, o = sigmoid, tanh, sigmoid, sigmoid of its four blocks;  c' = f c + i g;  h' = o tanh(c').
    Returns the gates (B, 4H), c' and h' (B, H).
    """
    i, g, f, o = np.split(preactivation, 4, axis=1)
    i, g, f, o = sigmoid(i), np.tanh(g), sigmoid(f), sigmoid(o)
    cell = f * cell + i * g
    return np.concatenate((i, g, f, o), axis=1), cell, o * np.tanh(cell)


def lstm_cell_backward(dhidden, dcell, gates, previous, cell):
    """Return dpreactivation (B, 4H) and dc (B, H), given the gradients of h' and c'."""
    i, g, f, o = np.split(gates, 4, axis=1)
    squashed = np.tanh(cell)
    dcell = dcell + dhidden * o * (1 - squashed**2)
    di, dg, df, do = dcell * g, dcell * i, dcell * previous, dhidden * squashed
    dpreactivation = (di * i * (1 - i), dg * (1 - g**2), df * f * (1 - f), do * o * (1 - o))
    return np.concatenate(dpreactivation, axis=1), dcell * f


def lstm_forward(gates, h, c, weights, lengths, reverse):
    """Compute all steps of an LSTM from h and c (B, H), with recurrent weights (H, 4H).

    On entry `gates` (T, B, 4H) holds the input's part of the preactivations, x_t W + b; it is overwritten by the
    gates. After its first `lengths` steps a sequence has ended: its state stays the same, and its output is 0.
    Returns hidden (T, B, H), h and c before each step, c after each step (computed for ended sequences, too), and
    the last h and c.
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
    """Backpropagate through all steps; return the gradients of preactivations (T, B, 4H) and of the first h and c.

    For a sequence that has ended, the gradient of its state is passed on unchanged to the step before.
    """
    steps = len(gates)
    dgates = np.empty(gates.shape, dhidden.dtype)
    for t in range(steps) if reverse else reversed(range(steps)):
        valid = t < lengths[:, None]
        dpreactivation, dprevious = lstm_cell_backward(dhidden[t] + dh, dc, gates[t], c_before[t], c_after[t])
        dgates[t] = np.where(valid, dpreactivation, 0)
        dh, dc = np.where(valid, dgates[t] @ weights.T, dh), np.where(valid, dprevious, dc)
    return dgates, dh, dc


# ---------------------------------------------------------------- all steps of a GRU (ops.gru)


def gru_forward(gates, h, weights, shift, lengths, reverse, reset_after):
    """Compute all steps of a GRU from h (B, H), with recurrent weights (H, 3H) and the candidate's shift c (H,).

    On entry `gates` (T, B, 3H) holds the input's part of the preactivations, x_t W + b, in the order reset,
    update, candidate; it is overwritten by the gates. With U the weights,

        r, z = sigmoid of their two blocks of x W + b + h U;  h' = n + z (h - n)
        m = h U_n + c,  n = tanh(x W_n + b_n + r m)         if the reset acts after the product,
        m = (r h) U_n + c,  n = tanh(x W_n + b_n + m)       else.

    A sequence that has ended is treated as in `lstm_forward`. Returns hidden (T, B, H), h before each step, the
    product m of each step, and the last h.
    """
    steps, size = len(gates), h.shape[1]
    hidden, h_before, products = (np.empty((steps, *h.shape), h.dtype) for _ in range(3))
    for t in reversed(range(steps)) if reverse else range(steps):
        valid = t < lengths[:, None]
        h_before[t] = h
        gates[t, :, : 2 * size] = sigmoid(gates[t, :, : 2 * size] + h @ weights[:, : 2 * size])
        r, z, n = np.split(gates[t], 3, axis=1)
        products[t] = (h if reset_after else r * h) @ weights[:, 2 * size :] + shift
        n[:] = np.tanh(n + (r * products[t] if reset_after else products[t]))
        hidden[t] = np.where(valid, n + z * (h - n), 0)
        h = np.where(valid, hidden[t], h)
    return hidden, h_before, products, h


def gru_backward(dhidden, dh, gates, h_before, products, weights, lengths, reverse, reset_after):
    """Backpropagate through all steps; return the gradients of x W + b (T, B, 3H) and of the first h.

    For a sequence that has ended, the gradient of its state is passed on unchanged to the step before.
    """
    steps, size = len(gates), dh.shape[1]
    dgates = np.empty(gates.shape, dhidden.dtype)
    for t in range(steps) if reverse else reversed(range(steps)):
        valid, h = t < lengths[:, None], h_before[t]
        r, z, n = np.split(gates[t], 3, axis=1)
        dstate = dhidden[t] + dh
        dn, dz = dstate * (1 - z) * (1 - n**2), dstate * (h - n) * z * (1 - z)
        dread = (dn * r if reset_after else dn) @ weights[:, 2 * size :].T  # of h, or of r h
        dr = (dn * products[t] if reset_after else dread * h) * r * (1 - r)
        dgates[t] = np.where(valid, np.concatenate((dr, dz, dn), axis=1), 0)
        through_gates = dgates[t, :, : 2 * size] @ weights[:, : 2 * size].T
        dh = np.where(valid, dstate * z + (dread if reset_after else dread * r) + through_gates, dh)
    return dgates, dh


# ---------------------------------------------------------------- one micro-layer of a highway network (ops.rhn)


def highway_cell(preactivation, state):
    """Compute one micro-layer from preactivations (B, 2W), candidate then transform, and s (B, W).

    h, t = tanh, sigmoid of its two blocks;  s' = s + t (h - s), so the carry gate is 1 - t.
    Returns the gates (B, 2W) and s' (B, W).
    """
    h, t = np.split(preactivation, 2, axis=1)
    h, t = np.tanh(h), sigmoid(t)
    return np.concatenate((h, t), axis=1), state + t * (h - state)


def highway_cell_backward(dstate, gates, previous):
    """Return the gradients of the preactivations (B, 2W) and, through the carry, of s (B, W) from that of s'."""
    h, t = np.split(gates, 2, axis=1)
    dh, dt = dstate * t, dstate * (h - previous)
    return np.concatenate((dh * (1 - h**2), dt * t * (1 - t)), axis=1), dstate * (1 - t)


# ---------------------------------------------------------------- embedding and softmax (ops.basic, ops.losses)


def add_rows(table, ids, rows):
    """Add rows[n] to table[ids[n]] for every n; ids may repeat."""
    np.add.at(table, ids, rows)


def log_sum_exp(logits):
    """Return log sum_k exp(logits[n, k]) for each row n, as m + log sum_k exp(logits[n, k] - m).

    m is the largest logit of the row (by its real part), so that exp does not overflow.
    """
    shift = np.real(logits).max(axis=1, keepdims=True).astype(logits.dtype)
    return shift[:, 0] + np.log(np.sum(np.exp(logits - shift), axis=1))


def softmax_minus_target(logits, log_sum, targets, scale):
    """Return scale * (softmax(logits) - one-hot(targets)), the gradient of scale * cross-entropy in the logits."""
    gradient = scale * np.exp(logits - log_sum[:, None])
    gradient[np.arange(len(targets)), targets] -= scale
    return gradient


# ---------------------------------------------------------------- linear map (ops.basic)


def affine(rows, weights, bias):
    """Return rows W + b."""
    return rows @ weights + bias


# ---------------------------------------------------------------- gradient descent (training.optimizers)


def descend(weights, gradient, rate):
    """Replace the gradient by w - rate * gradient."""
    gradient *= -rate
    gradient += weights
