# %% [markdown]
# # 1. One unit, its slices
#
# A trained LSTM is often wider than necessary. We would like to make it *narrower*: not by setting
# scattered weights to zero, but by removing whole hidden units, so that the result is an ordinary,
# smaller LSTM with the same outputs. Wen et al. (ICLR 2018, arXiv 1709.05027) observed why this is
# difficult: the weights of one hidden unit are spread over several matrices, and all of them have
# to be removed together. They call these weights the *intrinsic sparse structure* (ISS) of the
# unit.
#
# **You will learn** to find every slice (row, column or bias entry) that belongs to one unit, in a
# language model that is small enough to draw; to remove the unit by hand; what goes wrong when a
# slice is forgotten; and how to do the same with one function call. The next tutorials explain how
# to *train* a network so that units can be removed.
#
# **You need** to know what an LSTM is; nothing else is assumed. It takes about 40 minutes to read,
# with the exercise, and seconds to run. Numbers about our own networks are computed below, and most
# are checked by an `assert`. Numbers of the paper are quoted.

# %%
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from issref import Layout, alive, compact, expand, iss_groups
from issref.models import ptb_lstm
from issref.ops.basic import embed
from issref.ops.lstm import GATES, lstm
from issref.report import COLOURS, STYLE

plt.rcParams.update(STYLE | {"figure.dpi": 110, "savefig.dpi": 160})
FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
# ## The network
#
# The model reads a sentence word by word and predicts the next word. Each word is looked up in an
# embedding table; the embedded word $x_t$ goes through two LSTM layers; a linear map turns the
# output of the upper layer into one logit for each word of the vocabulary. (The softmax turns the
# logits into probabilities, so the arrays of this last map are called `softmax` below.)
#
# One LSTM layer with $H$ units and an input of size $D$ has two state vectors of length $H$, the
# output $h_t$ and the cell $c_t$. At each time step $t$ it computes the *preactivations* $a$, from
# them the *activations*, and from those the new state:
#
# $$[\,a_i \;\; a_g \;\; a_f \;\; a_o\,] = [\,x_t,\; h_{t-1}]\, K + b, \qquad
#   i = \sigma(a_i), \quad g = \tanh(a_g), \quad f = \sigma(a_f), \quad o = \sigma(a_o),$$
# $$c_t = f\, c_{t-1} + i\, g, \qquad h_t = o\, \tanh(c_t).$$
#
# Here $[x_t, h_{t-1}]$ is one row vector of length $D + H$; $K$ is the *kernel*, of shape $(D +
# H,\, 4H)$; $b$ is the bias, of length $4H$; $\sigma$ is the logistic function; products of vectors
# are taken entry by entry. The four blocks $a_i, a_g, a_f, a_o$ of length $H$ belong to the input
# gate $i$, the candidate $g$, the forget gate $f$ and the output gate $o$, in this order.
#
# Our network is tiny: 7 words, an embedding of size 3, and two layers of 4 units.

# %%
config = ptb_lstm.Config(vocabulary=7, embed_size=3, hidden_sizes=(4, 4))
layout = ptb_lstm.layout(config)
for array in layout.axes:
    print(f"{array:15} {layout.shape(array)!s:9} axes: {layout.spell(array)}")

# %% [markdown]
# This table is the *layout*. For each axis of each array, it lists the *spaces* along it, in order.
# There are four spaces: `word` (7 words), `embed` (3 embedding dimensions), `lstm0` (the 4 units of
# the lower layer) and `lstm1` (the 4 units of the upper layer). An entry of a space is called a
# *component*: in `lstm0` a hidden unit, in `word` a word. The rows, columns and bias entries at its
# places belong to it. Read the second line: the rows of `lstm0/kernel` are the 3 embedding
# dimensions followed by the 4 units of the layer itself (the recurrent part); its columns are the 4
# units, four times, once for each gate.
#
# The *group* of a unit is the part of its weights that training penalises: everything except its
# biases. The sign `~` marks entries that are removed with the component, but are not in its group.
#
# We fill all arrays with random numbers, including the biases and the *carried state*: the $h$ and
# $c$ of both layers that the network starts from. (A long text is read piece by piece, and the
# state is carried from one piece to the next.) Training usually starts from zero biases and zero
# states, but zeros would hide the mistakes that we want to see.

# %%
rng = np.random.default_rng(0)
params = {array: rng.normal(0, 0.8, layout.shape(array)) for array in layout.axes}

STEPS, BATCH = 12, 5
tokens = rng.integers(0, config.vocabulary, (STEPS, BATCH))
state_layout = ptb_lstm.state_layout(layout, BATCH)
state = {array: rng.normal(0, 0.5, state_layout.shape(array)) for array in state_layout.axes}


def outputs(params, state):
    """Return the logits at every time step for every sentence: an array (STEPS, BATCH, 7)."""
    (logits, _), _ = ptb_lstm.logits(params, state, tokens=tokens)
    return logits


def difference(a, b):
    """Return the largest absolute difference between two arrays."""
    return np.abs(a - b).max()


print(f"logits: shape {outputs(params, state).shape}")
assert outputs(params, state).shape == (12, 5, 7)

# %% [markdown]
# ## What belongs to one unit
#
# Take unit 2 of the lower layer (counting from 0). Which weights belong to it?
#
# - **Four gate columns.** The unit has one entry in each of the four blocks $a_i, a_g, a_f, a_o$.
#   Each is computed from one column of the kernel: columns 2, 4 + 2, 8 + 2 and 12 + 2.
# - **The rows that read it.** Its own layer reads its output at the next time step: $h_{t-1}[2]$ is
#   multiplied by row 3 + 2 of the layer's own kernel, below the 3 rows of the embedding (the
#   *recurrent row*). The layer above reads it at the same step, with row 2 of its kernel (the *row
#   above*). Both rows are called *readers* of the unit.
# - **Four bias entries**, one for each gate.
#
# The layout lists all these places, but not which of them read the unit; each model names its
# readers. `layout.occurrences("lstm0")` lists every place of the space in the arrays; unit 2 is 2
# positions after the start of each.

# %%
UNIT = 2
for array, axis, segment in layout.occurrences("lstm0"):
    what = "row" if axis == 0 and array.endswith("kernel") else "column" if axis == 1 else "entry"
    note = "" if segment.counted else "   (removed, not penalised)"
    print(f"{array:13} {what:6} {segment.start + UNIT:2}{note}")

places = []
for array, axis, segment in layout.occurrences("lstm0"):
    places.append((array, axis, segment.start + UNIT))
assert [place[2] for place in places if place[:2] == ("lstm0/kernel", 1)] == [2, 6, 10, 14]
assert ("lstm0/kernel", 0, 5) in places
assert ("lstm1/kernel", 0, 2) in places
assert len(places) == 10

# %% [markdown]
# Ten places. Here they are in colour. All coloured cells are removed with the unit; all others stay
# as they are.

# %% tags=["hide-input"]
COLUMN, RECURRENT, ABOVE, SELF, BIAS = 1, 2, 3, 4, 5
KIND_COLOURS = ["#E6E6E6", COLOURS[0], COLOURS[4], COLOURS[2], "#1B1B3A", COLOURS[5]]
KIND_NAMES = {
    COLUMN: "gate columns: compute the unit",
    RECURRENT: "recurrent row: its own layer reads it",
    ABOVE: "row above: the next layer reads it",
    SELF: "both: the unit reads itself",
    BIAS: "bias entries: removed, not penalised",
}


def kinds_of(array, space, unit):
    """For each entry of an array, the kind of slice of the unit that contains it, 0 for none."""
    on_axis = [np.zeros(length, bool) for length in layout.shape(array)]
    for found, axis, segment in layout.occurrences(space):
        if found == array:
            on_axis[axis][segment.start + unit] = True
    if len(on_axis) == 1:
        return np.where(on_axis[0], BIAS, 0)
    row_kind = RECURRENT if array == f"{space}/kernel" else ABOVE
    rows, columns = on_axis[0][:, None], on_axis[1][None, :]
    return np.select([rows & columns, columns, rows], [SELF, COLUMN, row_kind])


def draw(axes, array, x, y, kinds):
    """Draw an array as a grid of cells with its corner at (x, y), its segments labelled."""
    cells = np.atleast_2d(kinds)
    height, width = cells.shape
    edges = (x + np.arange(width + 1), y + np.arange(height + 1))
    colours = ListedColormap(KIND_COLOURS)
    axes.pcolormesh(*edges, cells, cmap=colours, vmin=0, vmax=5, edgecolors="white", linewidth=1)
    line = {"color": "#555555", "linewidth": 1}
    small = {"va": "center", "fontsize": 7.5, "color": "#444444"}
    is_bias, gates = kinds.ndim == 1, array.startswith("lstm")
    axes.add_patch(plt.Rectangle((x, y), width, height, fill=False, **line))
    axes.text(x, y - (0.5 if is_bias else 1.8), array, fontweight="bold", va="center")
    for number, segment in enumerate(layout.segments(array, -1)):
        axes.plot([x + segment.start] * 2, [y, y + height], **line)
        if not is_bias:
            name = GATES[number] if gates else segment.space
            axes.text(x + (segment.start + segment.stop) / 2, y - 0.6, name, ha="center", **small)
    for segment in [] if is_bias else layout.segments(array, 0):
        axes.plot([x, x + width], [y + segment.start] * 2, **line)
        middle = y + (segment.start + segment.stop) / 2
        axes.text(x - 0.4, middle, segment.space, ha="right", **small)


def blank(axes, width, height):
    """Set equal units, y downwards and no frame."""
    axes.set(xlim=(-4, width), ylim=(height, -3), aspect="equal")
    axes.axis("off")


CORNERS = {
    "embed/kernel": (0, 0), "lstm0/kernel": (8, 0), "lstm0/bias": (8, 8.2),
    "lstm1/kernel": (8, 13), "lstm1/bias": (8, 22.2),
    "softmax/kernel": (29, 13), "softmax/bias": (29, 18.2),
}  # fmt: skip

figure, axes = plt.subplots(figsize=(8.6, 5.6))
for array, corner in CORNERS.items():
    draw(axes, array, *corner, kinds_of(array, "lstm0", UNIT))
blank(axes, 41, 23.6)
legend = [Patch(color=KIND_COLOURS[kind], label=name) for kind, name in KIND_NAMES.items()]
axes.legend(handles=legend, loc="upper right", frameon=False, bbox_to_anchor=(1.0, 0.97))
axes.set_title("Everything that belongs to unit 2 of the lower layer (rows in, columns out)")
figure.savefig(FIGURES / "1_slices.png")

# %% [markdown]
# The dark cells are in a gate column *and* in the recurrent row: through these four weights the
# unit reads its own previous output. They belong to the unit once, not twice.
#
# The bias entries have a colour of their own. When the unit is removed they are removed too, but
# biases are traditionally not penalised in training, so they are not in the group (`~lstm0` in the
# layout).
#
# The number of coloured cells follows from the sizes.

# %%
coloured = {array: int((kinds_of(array, "lstm0", UNIT) > 0).sum()) for array in layout.axes}
print({array: count for array, count in coloured.items() if count})
removed = sum(coloured.values())
print(f"weights and biases removed with the unit: {removed}")
assert coloured["lstm0/kernel"] == 40  # 4 columns of 7, one row of 16, 4 crossings counted once
assert coloured["lstm1/kernel"] == 16
assert coloured["lstm0/bias"] == 4
assert removed == 60

# %% [markdown]
# ## Removing a unit by hand
#
# When can the unit be removed without changing the network's outputs? Its output is multiplied by
# the recurrent row and by the row above, and by nothing else. **If those rows are zero, the unit
# adds $h[2] \cdot 0 = 0$ to every sum it enters**, at every time step, whatever the value of
# $h[2]$. All other units then compute the same with it or without it. The unit's own columns and
# biases do not matter, because nothing reads its output.
#
# So we set these two rows to zero in a copy of the network. This *does* change the outputs; here it
# replaces what training will do. Then we delete the unit, slice by slice.

# %%
unread = {array: values.copy() for array, values in params.items()}
unread["lstm0/kernel"][3 + UNIT, :] = 0
unread["lstm1/kernel"][UNIT, :] = 0

gate_columns = [UNIT, 4 + UNIT, 8 + UNIT, 12 + UNIT]
by_hand = dict(unread)
without_columns = np.delete(unread["lstm0/kernel"], gate_columns, axis=1)
by_hand["lstm0/kernel"] = np.delete(without_columns, 3 + UNIT, axis=0)
by_hand["lstm0/bias"] = np.delete(unread["lstm0/bias"], gate_columns)
by_hand["lstm1/kernel"] = np.delete(unread["lstm1/kernel"], UNIT, axis=0)

# The carried state has one entry for each unit, too.
smaller_state = dict(state)
for part in ("lstm0/h", "lstm0/c"):
    smaller_state[part] = np.delete(state[part], UNIT, axis=1)

lossless = difference(outputs(unread, state), outputs(by_hand, smaller_state))
print(f"lstm0/kernel {params['lstm0/kernel'].shape} -> {by_hand['lstm0/kernel'].shape}")
print(f"lstm1/kernel {params['lstm1/kernel'].shape} -> {by_hand['lstm1/kernel'].shape}")
print(f"largest change of a logit: {lossless:.0e}")
assert by_hand["lstm0/kernel"].shape == (6, 12)
assert by_hand["lstm1/kernel"].shape == (7, 16)
assert lossless < 1e-13

# %% [markdown]
# The outputs agree up to rounding (a matrix product may add the same numbers in another order). And
# the result is not a special "sparse" network. It is an ordinary LSTM with layers of 3 and 4 units,
# which any library can run at full speed.
#
# ## Three possible mistakes
#
# ### Forgetting a column
#
# Suppose we overlook the output gate and delete only three of the four columns. The kernel then has
# 13 columns, which is not a multiple of four. `layout.check` raises an error.

# %%
three_columns = dict(by_hand)
without_columns = np.delete(unread["lstm0/kernel"], gate_columns[:3], axis=1)
three_columns["lstm0/kernel"] = np.delete(without_columns, 3 + UNIT, axis=0)

refusal = ""
try:
    layout.resized({"lstm0": 3}).check(three_columns)
except ValueError as error:
    refusal = str(error)
print(refusal)
axes = "embed + lstm0, 4 lstm0"
assert refusal == f"lstm0/kernel: expected shape (6, 12) for axes ({axes}), got (6, 13)"

# %% [markdown]
# This mistake is harmless: the shapes do not fit, so it cannot go unnoticed.
#
# ### Deleting the wrong columns
#
# Now suppose we remember to remove four columns, but believe that the columns are sorted by unit
# (unit 0's four gates, unit 1's four gates, and so on) and not by gate. Then we delete columns 8,
# 9, 10 and 11. This is one entire block, the forget gates of all four units. Twelve columns remain,
# every shape fits, and checking the shapes does not help.

# %%
wrong_columns = [4 * UNIT, 4 * UNIT + 1, 4 * UNIT + 2, 4 * UNIT + 3]
wrong = dict(by_hand)
without_columns = np.delete(unread["lstm0/kernel"], wrong_columns, axis=1)
wrong["lstm0/kernel"] = np.delete(without_columns, 3 + UNIT, axis=0)
wrong["lstm0/bias"] = np.delete(unread["lstm0/bias"], wrong_columns)

layout.resized({"lstm0": 3}).check(wrong)  # no complaint
mixed_up = difference(outputs(unread, state), outputs(wrong, smaller_state))
print(f"columns {wrong_columns} deleted: largest change of a logit {mixed_up:.2f}")
assert f"{mixed_up:.2f}" == "0.28"

# %% [markdown]
# The order of the blocks is a convention that differs between frameworks. Here it is input,
# candidate, forget, output, as in the code released with the paper; others put the forget gate
# second. Only a comparison of outputs, with random biases, reveals a wrong order.
#
# ### Forgetting what reads the unit
#
# The third mistake is the most tempting. Set the unit's four gate *columns* to zero, so that no
# input and no previous output reaches it, but leave the two rows that read it as they are. Is a
# unit without inputs not dead?
#
# It is not, because its biases are not zero. With zero columns the preactivations are the biases:
# $a_i = b_i$, $a_g = b_g$, $a_f = b_f$, $a_o = b_o$. So from $c_0 = 0$ the cell follows $c_t =
# \sigma(b_f)\, c_{t-1} + \sigma(b_i) \tanh(b_g)$. This is a geometric series with the limit
#
# $$c_\infty = \frac{\sigma(b_i) \tanh(b_g)}{1 - \sigma(b_f)}, \qquad
#   h_\infty = \sigma(b_o) \tanh(c_\infty).$$
#
# The unit's output is the same in every sentence, but it is not zero.

# %%
no_columns = {array: values.copy() for array, values in params.items()}
no_columns["lstm0/kernel"][:, gate_columns] = 0


def unit_output(params, tokens):
    """Return h_t of our unit, starting from zero: an array (time steps, sentences)."""
    x, _ = embed(params["embed/kernel"], ids=tokens)
    zeros = np.zeros((tokens.shape[1], 4))
    (hidden, _, _), _ = lstm(x, zeros, zeros, params["lstm0/kernel"], params["lstm0/bias"])
    return hidden[:, :, UNIT]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


sentences = rng.integers(0, config.vocabulary, (40, 6))
alive_signal, constant_signal = unit_output(params, sentences), unit_output(no_columns, sentences)

b_i, b_g, b_f, b_o = no_columns["lstm0/bias"][gate_columns]
limit = sigmoid(b_o) * np.tanh(sigmoid(b_i) * np.tanh(b_g) / (1 - sigmoid(b_f)))
spread = np.ptp(constant_signal, axis=1).max()
print(f"columns zero: the signal differs between sentences by {spread:.0e}")
print(f"after 40 steps it is {constant_signal[-1, 0]:.4f}; the limit of the formula is {limit:.4f}")
assert spread < 1e-15
assert f"{constant_signal[-1, 0]:.4f}" == f"{limit:.4f}" == "0.4043"

# %% tags=["hide-input"]
figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 2.9), sharey=True)
for curve, colour in zip(alive_signal.T, COLOURS, strict=True):
    left.plot(curve, color=colour, linewidth=1.1, alpha=0.85)
left.set_title("Original network: six sentences, six signals")
right.axhline(limit, color="#777777", linewidth=1, linestyle=(0, (4, 3)))
right.plot(constant_signal[:, 0], color="#222222")
right.text(39, limit, r"limit $h_\infty$", va="bottom", ha="right", color="#555555")
right.set_title("Gate columns zero: the same signal for all six, not zero")
for axes in (left, right):
    axes.axhline(0, color="#999999", linewidth=0.8)
    axes.set_xlabel("time step t")
left.set_ylabel("output of the unit, $h_t[2]$")
figure.savefig(FIGURES / "1_bias_signal.png")

# %% [markdown]
# Removing such a unit changes the inputs of its readers. How much does this change the logits? We
# start from a zero state and compare. For contrast, we do the same with the unit's four biases set
# to zero: then $\tanh(b_g) = 0$, the cell stays at 0, and the output is exactly zero.

# %%
zero_state = state_layout.allocate()
others = {"lstm0": np.arange(4) != UNIT}  # remove the unit, whatever its weights are

no_biases = {array: values.copy() for array, values in no_columns.items()}
no_biases["lstm0/bias"][gate_columns] = 0

changes = {}
for name, network in {"random biases": no_columns, "zero biases": no_biases}.items():
    cut, _ = compact(network, layout, others)
    cut_state, _ = compact(zero_state, state_layout, others)
    changes[name] = difference(outputs(network, zero_state), outputs(cut, cut_state))
    print(f"columns zero, {name}: removing the unit changes a logit by up to {changes[name]:.2f}")
print(f"(logits have a standard deviation of {outputs(no_columns, zero_state).std():.2f})")
assert f"{changes['random biases']:.2f}" == "0.20"
assert f"{outputs(no_columns, zero_state).std():.2f}" == "0.65"
assert changes["zero biases"] < 1e-13
assert np.all(unit_output(no_biases, sentences) == 0)

# %% [markdown]
# So the rule is: **a unit can be removed without loss if everything that reads it is zero.** This
# is sufficient, but not necessary (tutorial 6). Zero columns are neither sufficient nor necessary.
# (If the *whole group* is zero, columns and rows, then the readers are zero too, and the unit can
# be removed whatever its biases are.)
#
# ## The same in one call
#
# We have computed indices such as `8 + UNIT` by hand many times. The layout makes this unnecessary.
# Three functions do the work:
#
# - `alive(params, groups, readers)` returns, for each unit, whether any weight that reads it is
#   nonzero. Each model defines its readers: `ptb_lstm.READERS` lists the rows (axis 0) of all LSTM
#   kernels and of the softmax kernel. Without `readers`, `alive` checks the whole group.
# - `compact(params, layout, alive)` deletes all slices of the units that are not alive, and returns
#   the smaller arrays and their layout. The same function removes the units from the carried state.
# - `expand` is its inverse: it inserts zeros.

# %%
groups = iss_groups(layout, ["lstm0", "lstm1"])

by_group = alive(unread, groups)
by_readers = alive(unread, groups, ptb_lstm.READERS)
print("alive by whole groups:", by_group["lstm0"], by_group["lstm1"])
print("alive by readers:     ", by_readers["lstm0"], by_readers["lstm1"])
assert by_group["lstm0"].tolist() == [True, True, True, True]  # its columns are not zero
assert by_readers["lstm0"].tolist() == [True, True, False, True]
assert by_readers["lstm1"].all()

small, small_layout = compact(unread, layout, by_readers)
small_state, _ = compact(state, state_layout, by_readers)
assert all(np.array_equal(small[array], by_hand[array]) for array in layout.axes)
assert all(np.array_equal(small_state[part], smaller_state[part]) for part in state)
assert difference(outputs(unread, state), outputs(small, small_state)) < 1e-13

# %% [markdown]
# `compact` returns exactly the arrays that we made by hand. `expand` restores the original shapes,
# with zeros for all slices of the unit, including its biases.

# %%
large, large_layout = expand(small, small_layout, by_readers)
assert large_layout == layout
zeros_inserted = sum(int((large[array] == 0).sum()) for array in layout.axes)
print(f"zeros inserted: {zeros_inserted}")
assert zeros_inserted == 60
assert difference(outputs(large, state), outputs(small, small_state)) < 1e-13

# %% [markdown]
# ## What it saves
#
# Two numbers describe the size of the network: its *parameters* (every entry of every array), and
# its *multiply-adds* for one word (every entry of a kernel is used in one multiplication; the
# embedding is a look-up and costs nothing). With $V$ words, embedding size $E$ and layers of $H_0$
# and $H_1$ units the multiply-adds are $4 H_0 (E + H_0) + 4 H_1 (H_0 + H_1) + H_1 V$. (Below, the
# parameters after the removal and the multiply-adds before it are both 268, by coincidence.)

# %%
before = layout.parameters(), ptb_lstm.multiply_adds(layout)
after = small_layout.parameters(), ptb_lstm.multiply_adds(small_layout)
print(f"parameters    {before[0]} -> {after[0]}")
print(f"multiply-adds {before[1]} -> {after[1]}")
assert before[0] == 328
assert after[0] == 268
assert before[1] == 268
assert after[1] == 212
assert before[0] - after[0] == removed
assert before[1] == 4 * 4 * (3 + 4) + 4 * 4 * (4 + 4) + 4 * 7

# %% [markdown]
# Removing one unit of eight saves a fifth of the multiply-adds. The paper's network is wider: two
# layers of 1500 units, an embedding of the same size, and 10,000 words. The authors' code reports a
# run in which 373 units of the lower layer and 315 units of the upper layer remain. A layout holds
# no weights, so we can compute the sizes without allocating anything.

# %%
paper_layout = ptb_lstm.layout(ptb_lstm.Config(10_000, 1500, (1500, 1500)))
paper_small = paper_layout.resized({"lstm0": 373, "lstm1": 315})
sizes = [one.parameters() for one in (paper_layout, paper_small)]
works = [ptb_lstm.multiply_adds(one) for one in (paper_layout, paper_small)]
print(f"parameters    {sizes[0]:,} -> {sizes[1]:,}")
print(f"multiply-adds {works[0]:,} -> {works[1]:,}, {works[0] / works[1]:.1f} times fewer")
assert f"{sizes[0]:,}" == "66,022,000"
assert f"{sizes[1]:,}" == "21,824,148"
assert f"{works[0] / works[1]:.1f}" == "7.5"

# %% [markdown]
# ## Why scattered zeros save nothing
#
# Removing the unit removed 56 weights from the kernels. What if we set 56 randomly chosen kernel
# weights to zero instead? The network then has one zero for each weight that the removal deleted.
# But a matrix product becomes smaller only if whole rows or columns can be removed, in every array
# in which the unit occurs. Scattered zeros do not allow this.

# %%
kernels = ("lstm0/kernel", "lstm1/kernel", "softmax/kernel")
weights = sum(params[array].size for array in kernels)
zeros = sum(coloured[array] for array in kernels)
mask = np.ones(weights, bool)
mask[rng.choice(weights, zeros, replace=False)] = False

scattered, start = dict(params), 0
for array in kernels:
    piece = mask[start : start + params[array].size].reshape(params[array].shape)
    scattered[array] = params[array] * piece
    start += params[array].size

empty_rows = sum(int((scattered[array] == 0).all(axis=1).sum()) for array in kernels)
empty_columns = sum(int((scattered[array] == 0).all(axis=0).sum()) for array in kernels)
still_alive = alive(scattered, groups, ptb_lstm.READERS)
alive_count = sum(int(units.sum()) for units in still_alive.values())
print(f"{zeros} of {weights} kernel weights zero, scattered")
print(f"empty rows {empty_rows}, empty columns {empty_columns}, units alive {alive_count} of 8")
_, scattered_layout = compact(scattered, layout, still_alive)
print(f"multiply-adds after compaction: {ptb_lstm.multiply_adds(scattered_layout)}")
assert zeros == 56
assert weights == 268
assert empty_rows == empty_columns == 0
assert alive_count == 8
assert ptb_lstm.multiply_adds(scattered_layout) == 268

# %% tags=["hide-input"]
figure, panels = plt.subplots(1, 2, figsize=(8.6, 4.6))
one_unit = {array: kinds_of(array, "lstm0", UNIT) for array in kernels}
at_random = {array: np.where(scattered[array] == 0, BIAS, 0) for array in kernels}
titles = ("56 zeros (blue) in one unit: 212 multiply-adds", "56 zeros, scattered: still 268")
for axes, pattern, title in zip(panels, (one_unit, at_random), titles, strict=True):
    for array, corner in zip(kernels, ((0, 0), (0, 11), (0, 23)), strict=True):
        draw(axes, array, *corner, np.where(pattern[array] > 0, COLUMN, 0))
    blank(axes, 16.5, 27.5)
    axes.set_title(title)
figure.savefig(FIGURES / "1_scattered.png")

# %% [markdown]
# Does it help to set many more weights to zero? At the paper's size, 12,000 weights read one unit
# of the lower layer: its recurrent row and the row above have $4 \cdot 1500$ weights each. If
# each weight is zero with probability 0.95, independently, all 12,000 are zero with probability
# $0.95^{12000}$.

# %%
reading = 4 * 1500 + 4 * 1500
exponent = reading * math.log10(0.95)
print(f"{reading:,} weights read the unit: all are zero with probability 10^{exponent:.0f}")
assert f"{reading:,}" == "12,000"
assert f"{exponent:.0f}" == "-267"

# %% [markdown]
# So practically no unit becomes removable by chance. Training has to push all weights of a unit to
# zero *together*, and the group lasso penalty does this. Zero readers would be enough to remove the
# unit. But if its columns or biases are nonzero, it still has an output, so its readers have
# gradients and it may come back. Nonzero columns also go on reading other units. So the group
# contains columns and readers. Biases are usually not penalised; they are removed with the unit, or
# set to zero (tutorial 6).
#
# ## Exercise
#
# 1. Which arrays read the units of `lstm0`, and which arrays read the units of `lstm1`? (A layer
#    reads itself.)
# 2. How many weights are in the group of one unit of each layer? Biases are not counted, and no
#    weight is counted twice. Write a formula in $E$, $H_0$, $H_1$ and $V$.
# 3. Suppose the softmax reads both layers (a skip connection). Which line of the layout changes,
#    and how does the group of a lower unit grow?
#
# Try to answer before you read on.
#
# ### Answer
#
# In this model an array reads a space if its rows (axis 0) contain the space, because rows
# correspond to inputs.
# `lstm0` is read by `lstm0/kernel` and `lstm1/kernel`; `lstm1` by `lstm1/kernel` and
# `softmax/kernel`. Each group has four columns as long as the kernel is high, the recurrent row and
# the row above; the four crossings of columns and recurrent row were counted twice, so
#
# $$|G_0| = 4 (E + H_0) + 4 H_0 + 4 H_1 - 4, \qquad |G_1| = 4 (H_0 + H_1) + 4 H_1 + V - 4.$$
#
# We check both with the group numbers that `iss_groups` computes from the layout:
# `groups.ids[array]` holds the group number of every row and of every column (-1 for none). A
# weight is in group $k$ if its row or its column has the number $k$.

# %%
for space, expected in {"lstm0": {"lstm0", "lstm1"}, "lstm1": {"lstm1", "softmax"}}.items():
    counted = [found for found in layout.occurrences(space) if found.segment.counted]
    readers = {found.array for found in counted if found.axis == 0}
    print(f"{space} is read by {sorted(readers)}")
    assert readers == {f"{name}/kernel" for name in expected}


def size_of(group, groups):
    """Count the weights whose row or column has the number of the group."""
    ids = groups.ids.values()
    return sum(int(((rows[:, None] == group) | (columns == group)).sum()) for rows, columns in ids)


E, H0, H1, V = 3, 4, 4, 7
lower, upper = size_of(groups.first["lstm0"] + UNIT, groups), size_of(groups.first["lstm1"], groups)
print(f"weights in a group: lower layer {lower}, upper layer {upper}")
assert lower == 4 * (E + H0) + 4 * H0 + 4 * H1 - 4
assert upper == 4 * (H0 + H1) + 4 * H1 + V - 4
assert lower == 56
assert upper == 51

# %% [markdown]
# 56 is also the number of kernel weights that we removed above, as it must be. For the skip
# connection, only the rows of `softmax/kernel` change: they are now the units of `lstm0` followed
# by the units of `lstm1`. The group of a lower unit grows by one row of that matrix, $V = 7$
# weights. Groups, penalty and compaction follow from the new layout with no other change.

# %%
axes_of = {**layout.axes, "softmax/kernel": (("lstm0", "lstm1"), ("word",))}
skip_groups = iss_groups(Layout(axes_of, layout.sizes), ["lstm0", "lstm1"])
with_skip = size_of(skip_groups.first["lstm0"] + UNIT, skip_groups)
print(f"with the skip connection: lower layer {with_skip}")
assert with_skip == lower + V == 63

# %% [markdown]
# ## What to take away
#
# - The group of an LSTM unit consists of four gate columns and the rows that read the unit: the
#   recurrent row and the row above. Its biases are removed with it, but are not in the group.
# - It can be removed without loss if everything that reads it is zero. Zero columns are not enough,
#   because the biases can still make the unit's output nonzero.
# - The layout, a table of the spaces along each axis, lists all places of a unit. Removing units is
#   then one call.
# - Zeros save work only if they cover a whole unit. The same number of scattered zeros saves
#   nothing.
#
# ## Where to go next
#
# - [Tutorial 2](2_the_penalty.py) derives the penalty that pushes all slices of a unit to zero.
# - `issref/iss/layout.py` implements the layout, and `issref/iss/groups.py` the groups.
