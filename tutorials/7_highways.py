# %% [markdown]
# # 7. Highways: the same table
#
# Tutorial 1 removed a unit from an LSTM. It needed two things about LSTMs: a table (the layout) and
# a list of what reads a unit. Here we apply the same method to a network with another structure,
# the *recurrent highway network* of Zilly et al. (2017), the second network of Wen et al. (arXiv
# 1709.05027, section 4.1). In it one unit extends from the embedding through every layer to the
# softmax. At the end we write down the layout of a GRU.
#
# **You will learn** to write down the layout of another network and the list of what reads a unit
# in it; which arrays have to be zero for a dead unit to stay dead; and how the functions of
# tutorials 1, 4 and 6 do the rest.
#
# **You need** [tutorial 1](1_one_unit.py), and [tutorial 6](6_compaction.py), which shows that
# compaction changes no output. It takes about 65 minutes to read, with the exercise, and seconds to
# run. Numbers about our own networks are computed below, and most are checked by an `assert`.
# Numbers of the paper are quoted.

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from issref import Layout, alive, compact, group_norms, iss_groups, prox, zero_dead
from issref.models import ptb_gru, ptb_lstm, ptb_rhn
from issref.ops.rhn import GATES, rhn
from issref.report import COLOURS, STYLE
from issref.training.optimizers import add_weight_decay, clip_scale, global_norm, sgd
from issref.verify.released import rhn_variables, write_groups

plt.rcParams.update(STYLE | {"figure.dpi": 110, "savefig.dpi": 160})
FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
# ## Highways: a layer that is deep at every step
#
# The network has one state vector $s$ of width $W$. To read the word $x_t$ it starts from $s =
# s_{t-1}$ and updates $s$ several times, in the *micro-layers* $d = 0, 1, \ldots, D - 1$:
#
# $$h = \tanh(u H_d + b_d), \qquad t = \sigma(u T_d + b'_d), \qquad s \leftarrow s + t\,(h - s),$$
#
# with $u = [x_t, s]$ in micro-layer 0 and $u = s$ in all others. The final $s$ is $s_t$. The vector
# $h$ is the *candidate*, $t$ is the *transform gate* (as an index, $t$ is the time step). Note two
# things. The input enters once, in micro-layer 0. And there is no second gate: since $s + t (h -
# s) = t\,h + (1 - t)\,s$, the *carry gate*, the factor of the old $s$, is $1 - t$. Where $t$ is
# small, $s$ passes almost unchanged, as on a highway.
#
# A `kernel` holds $H_d$ and $T_d$ next to each other. Here is one time step with a state of one
# number and two micro-layers, small enough for a pocket calculator, first written out and then
# computed by `issref.ops.rhn`.

# %%
two_layers = (
    np.array([[1.0, 2.0], [-1.0, 0.0]]), np.zeros(2),  # H_0 = (1, -1), T_0 = (2, 0): input, state
    np.array([[2.0, -1.0]]), np.zeros(2),  # H_1 = 2, T_1 = -1
)  # fmt: skip
x, s = np.array([1.0]), np.array([0.5])
for d in (0, 1):
    u = np.concatenate([x, s]) if d == 0 else s
    h, t = np.split(u @ two_layers[2 * d] + two_layers[2 * d + 1], 2)
    h, t = np.tanh(h), 1 / (1 + np.exp(-t))
    s = s + t * (h - s)
    print(f"micro-layer {d}:  h {h[0]:.4f}   t {t[0]:.4f}   s {s[0]:.4f}")

(hidden, _), _ = rhn(np.ones((1, 1, 1)), np.array([[0.5]]), *two_layers)
print(f"ops.rhn:                             s {hidden[0, 0, 0]:.4f}")
assert f"{s[0]:.4f}" == f"{hidden[0, 0, 0]:.4f}" == "0.5690"

# %% [markdown]
# ## One width
#
# In the language model, $x_t$ is the row of the embedding $M$ for the input word, and the logits of
# the next word are $s_t M^\top + b$. Both use the same $M$, of shape $(V, W)$ for $V$ words: input
# and output embeddings are *tied*. An LSTM language model has one size for the embedding and one
# for each layer. Here there is only one size, for two reasons.
#
# - *The carry.* $s + t (h - s)$ is taken entry by entry, so entry $k$ of $h$ and $t$ in every
#   micro-layer (column $k$ of $H_d$, column $k$ of $T_d$) belongs to entry $k$ of $s$. And all
#   micro-layers share $s$: the state row $k$ of each $H_d$ and $T_d$ reads the same entry. (In
#   micro-layer 0 this is row $W + k$.)
# - *The tied embedding.* In micro-layer 0, $x_t$ has rows of its own, so the width of the input
#   could differ from the width of $s$. The softmax does not allow this: a row of $M$ is the input
#   $x_t$ when its word is read, and is multiplied by $s_t$ when its word is predicted. So $x_t$ is
#   as long as $s_t$, and column $k$ of $M$ belongs to entry $k$ of both.
#
# We take 7 words, a width of 4 and 3 micro-layers, and fill all arrays with random numbers,
# including the biases. Besides the words there is one space, `width`, along every other axis.

# %%
WORDS = ["the", "a", "sees", ".", "cat", "dog", "bird"]
V, W, D, STEPS, BATCH = len(WORDS), 4, 3, 12, 5
drops = dict.fromkeys(("drop_word", "drop_input", "drop_state", "drop_output"), 0.3)
config = ptb_rhn.Config(vocabulary=V, width=W, depth=D, **drops)
layout = ptb_rhn.layout(config)
states = ptb_rhn.state_layout(layout, BATCH)
for array in layout.axes:
    print(f"{array:15} {layout.shape(array)!s:8} axes: {layout.spell(array)}")
assert layout.spell("micro0/kernel") == "2 width, 2 width"

rng = np.random.default_rng(0)
params = {array: rng.normal(0, 0.8, layout.shape(array)) for array in layout.axes}
state = {array: rng.normal(0, 0.5, states.shape(array)) for array in states.axes}
tokens, targets = rng.integers(0, V, (2, STEPS, BATCH))

# %% [markdown]
# The rows of `micro0/kernel` are the input and then the state, "2 width"; the columns of every
# micro-layer are the candidate and then the transform gate. The figure shows everything that
# belongs to unit 2.

# %% tags=["hide-input"]
UNIT = 2
KINDS = {
    "columns of $H_d$, $T_d$: compute the unit": COLOURS[0],
    "state rows: read its entry of $s$": COLOURS[4],
    "input row: reads its entry of $x_t$": COLOURS[2],
    "embedding column: writes its entry of $x_t$;\nhere the softmax reads $s_t$": COLOURS[3],
    "both: the unit reads itself": "#1B1B3A",
    "bias entries: removed, not penalised": COLOURS[5],
}
COLUMN, STATE, INPUT, EMBEDDING, SELF, BIAS = range(1, 7)
cells = {}
for array in layout.axes:
    rows, columns = at = ([], [])
    for found, axis, segment in layout.occurrences("width"):
        if found == array:
            at[axis].append(segment.start + UNIT)
    cells[array] = kinds = np.zeros(layout.shape(array), int)
    kinds[rows] = STATE if kinds.ndim == 2 else BIAS
    if array == "micro0/kernel":
        kinds[rows[0]] = INPUT
    if columns:
        kinds[:, columns] = COLUMN if rows else EMBEDDING
        kinds[np.ix_(rows, columns)] = SELF

figure, panels = plt.subplots(2, 4, figsize=(8.6, 3.7), height_ratios=(8, 1))
arrays = sorted(layout.axes, key=lambda array: ("bias" in array, "micro" in array))
for axes, array in zip(panels.flat, arrays, strict=True):
    kinds = np.atleast_2d(cells[array])
    look = {"cmap": ListedColormap(["#E6E6E6", *KINDS.values()]), "vmin": 0, "vmax": len(KINDS)}
    axes.pcolormesh(kinds, edgecolors="white", linewidth=1, **look)
    axes.set(title=array, xlim=(0, 8), ylim=(8 if "kernel" in array else 1, 0), aspect="equal")
    axes.set(xticks=[], yticks=[], anchor="NW", frame_on=False)
    axes.xaxis.tick_top()
    if array.startswith("micro") and "kernel" in array:
        axes.set_xticks([2, 6], GATES)
        axes.set_yticks([2, 6][: len(kinds) // 4], ["input", "state"][-len(kinds) // 4 :])
        axes.vlines(4, 0, len(kinds), color="#555555", linewidth=1)
        axes.hlines([4] if len(kinds) > 4 else [], 0, 8, color="#555555", linewidth=1)
    axes.tick_params(length=0, grid_alpha=0)
legend = [Patch(color=colour, label=name) for name, colour in KINDS.items()]
figure.legend(handles=legend, loc="outside lower center", frameon=False, ncols=3, fontsize=8)
figure.savefig(FIGURES / "7_slices.png")

# %% [markdown]
# The dark cells belong to the unit once. So the size of its group, without biases, is as follows.
# The embedding column has $V$ weights. The columns of $H_d$ and $T_d$ have $2 (D + 1) W$ weights in
# total, since in micro-layer 0 they have length $2 W$ and in the others $W$. The rows have as many:
# one for each micro-layer and one more for the input, each of length $2 W$. Finally, $2 (D + 1)$
# crossings are in both a row and a column and must be counted once:
#
# $$|G| = V + 4 (D + 1) W - 2 (D + 1).$$
#
# ## The same functions
#
# No code in `issref.iss` is specific to highway networks. `iss_groups` turns the layout into a
# group number for every row and column, and all other functions use these numbers. We count the
# weights of a group by the formula, in the figure, and by the norm of a group whose weights are
# all 1.


# %%
def group_size(layout, space):
    """Count the weights in the group of one component of a space."""
    ones = {array: np.ones(layout.shape(array)) for array in layout.axes}
    return round(group_norms(ones, iss_groups(layout, [space]))[0] ** 2)


formula = V + 4 * (D + 1) * W - 2 * (D + 1)
in_figure = sum(int((kinds > 0).sum()) for kinds in cells.values() if kinds.ndim == 2)
print(f"weights of a group: {formula}, {in_figure}, {group_size(layout, 'width')}")
assert formula == in_figure == group_size(layout, "width") == 63

# %% [markdown]
# ## The released group file
#
# The authors' network has width 830, 10 micro-layers and 10,000 words. Their code has no layout; it
# reads a file, `groups_hidden830.json`, which lists the slices of every matrix in 43 entries. The
# layout generates the same entries if it uses the authors' variable names ($H_d$ and $T_d$ are
# separate there).

# %%
authors = rhn_variables(830, 10)
(entries,) = json.loads(write_groups(authors, ["width"]))["groups"]
for entry in entries[:4]:
    print(" ".join(f"{name} {value}" for name, value in entry.items()))
print(f"{len(entries)} entries: embedding 1, H_0 and T_0 3 each, the 18 others 2 each")
assert len(entries) == 1 + 2 * 3 + 18 * 2 == 43

# %% [markdown]
# Look at `h_0` with axis 1, from 0 to 830 and from 830 to 1660: these are its input rows and its
# state rows. The code squares the matrix, sums along `axis`, takes the part from `start` to `end`,
# and adds up these parts over all entries (each entry times its `multi`, here 1). Number $k$ of the
# result is the squared norm of unit $k$. **So `axis` is the axis that is summed over.** Axis 1
# leaves one number for each row: the slices are rows. Axis 0, in the first and the fourth entry,
# leaves one number for each column.
#
# So each entry adds as many weights to a unit as the length of `axis`. A crossing is in an entry of
# rows and in an entry of columns, and is counted twice. (`penalty` implements this convention as
# `self_weight=2`.) To count crossings once, we compare the numbers of parameters of two layouts,
# one of them one unit narrower, and subtract the $2 D$ biases.

# %%
twice = sum(authors.shape(entry["var_name"])[entry["axis"]] for entry in entries)
paper = ptb_rhn.layout(ptb_rhn.Config(vocabulary=10_000, width=830, depth=10))
once = paper.parameters() - paper.resized({"width": 829}).parameters() - 2 * 10
print(f"weights of a group: {twice:,} by the file, {once:,} as a set, {twice - once} fewer")
assert f"{twice:,}" == "46,520"
assert once == 10_000 + 4 * 11 * 830 - 2 * 11 == twice - 22

# %% [markdown]
# ## What reads a unit
#
# As in tutorial 1, a unit can be removed if everything that *reads* it is zero; the weights that
# compute it do not matter. The readers are the input row, a state row for each micro-layer, and the
# column of the embedding, which the softmax multiplies by $s_t[k]$. They are listed in
# `ptb_rhn.READERS`.
#
# We set all readers of unit 2 to zero, or all but one, and then remove the unit. Dropout is on,
# with four masks, drawn once for each sentence (*variational* dropout). Three of them (for input,
# state and output) are the same at every step and in every micro-layer. So they have the shape
# (sentences, width), and their column for unit 2 must be removed, too. They have a layout, and
# `compact` cuts them, like the carried state. (The fourth mask drops words: all occurrences of a
# word within a sentence have the same value. It has no width.)

# %%
masks = ptb_rhn.draw_masks(config, layout.sizes, rng, STEPS, BATCH)
mask_layout = ptb_rhn.mask_layout(layout, masks)
others = {"width": np.arange(W) != UNIT}
small_state, _ = compact(state, states, others)
small_masks, _ = compact(masks, mask_layout, others)
READING = {
    "embedding column": ("embed/kernel", (slice(None), UNIT)),
    "input row": ("micro0/kernel", UNIT),
    "state row of micro0": ("micro0/kernel", W + UNIT),
    "state row of micro1": ("micro1/kernel", UNIT),
    "state row of micro2": ("micro2/kernel", UNIT),
}


def difference(network, small, small_masks=small_masks):
    """Return the largest change of a logit if the small network replaces the network."""
    (full_logits, _), _ = ptb_rhn.logits(network, state, tokens=tokens, masks=masks)
    (logits, _), _ = ptb_rhn.logits(small, small_state, tokens=tokens, masks=small_masks)
    return np.abs(full_logits - logits).max()


groups = iss_groups(layout, ["width"])
changes = {}
for forgotten in (*READING, "nothing"):
    network = {array: values.copy() for array, values in params.items()}
    for name, (array, index) in READING.items():
        network[array][index] *= name == forgotten
    is_alive = bool(alive(network, groups, ptb_rhn.READERS)["width"][UNIT])
    small, _ = compact(network, layout, others)
    changes[forgotten] = difference(network, small)
    print(f"forgotten: {forgotten:19}  alive: {is_alive!s:5}  change {changes[forgotten]:.2f}")
    assert is_alive == (forgotten != "nothing")
assert f"{changes['embedding column']:.2f}" == "1.15"
assert changes["nothing"] < 1e-13

# %% [markdown]
# If the embedding column is forgotten, the unit still contributes to every logit; if a state row is
# forgotten, it still contributes to all units. With nothing forgotten the outputs are the same,
# although the unit's biases and columns are not zero. Forgetting only the input row is harmless,
# because it reads $x_t[2]$, an entry of the embedding column, which is zero. `alive` still requires
# it to be zero: it checks each slice separately, and errs on the safe side.
#
# If one forgets to *remove* a slice of weights, the shapes no longer fit (tutorial 1). With masks a
# mistake can go unnoticed. If the last column of each mask is removed instead of the column of unit
# 2, the shapes fit, but unit 3 has the mask of unit 2.

# %%
wrong_masks, _ = compact(masks, mask_layout, {"width": np.arange(W) != W - 1})
mixed_up = difference(network, small, wrong_masks)  # of the last case, "nothing" forgotten
print(f"masks cut in the wrong place: a logit changes by {mixed_up:.2f}")
assert mixed_up > 1

# %% [markdown]
# ## Why dead units stay dead
#
# In training, the proximal step makes a whole group zero. Biases are in no group, and the biases of
# the transform gates start at $-2$, far from zero. Does a unit with nonzero biases become nonzero
# again? Its entry of $h$ is then $\tanh(b_d[k])$, so $s[k]$ moves away from zero. The gradients of
# the state rows and of the embedding column contain the factor $s[k]$, so the next step can make
# them nonzero, and the unit is alive again.
#
# If $b_d[k]$ is zero in every micro-layer, $h[k] = \tanh(0) = 0$, and from $s[k] = 0$ the state
# moves by $t\,(0 - 0)$, whatever $t$ is: it stays zero, and no gradient reaches the readers. As
# the readers are zero themselves, no gradient passes through them to $h$ and $t$ either. Every
# gradient is exactly zero, even with a nonzero $b'_d[k]$. But weight decay acts on every bias (in
# the released code, with $10^{-7}$). This changes the norm of the whole gradient, by which
# training clips it, and so a dead unit would influence the others. A nonzero carried state would
# also give readers a gradient. So `zero_dead` sets *all* slices of a dead unit to zero: both
# biases and, with a layout of its own, the state.


# %%
def on_dead(values):
    """Return the norm of the slices of the dead unit."""
    of_others = zero_dead(values, layout, others)
    return global_norm({array: values[array] - of_others[array] for array in values})


dead, zero_state = zero_dead(params, layout, others), zero_dead(state, states, others)
transform = {array: values.copy() for array, values in dead.items()}
for d in range(D):
    transform[f"micro{d}/bias"][W + UNIT] = -2
cases = {
    "all biases nonzero": ({**dead, **{a: params[a] for a in params if "bias" in a}}, zero_state),
    "only the state nonzero": (dead, state),
    "only b' nonzero": (transform, zero_state),
    "everything zero": (dead, zero_state),
}
norms = {}
for name, (network, before) in cases.items():
    _, backward = ptb_rhn.loss(network, before, tokens=tokens, targets=targets, masks=masks)
    grads, _ = backward(1.0)
    of_loss = on_dead(grads)
    add_weight_decay(grads, network, 1e-7)
    norms[name] = of_loss, on_dead(grads)
    print(f"{name:22}  gradient {of_loss:.1e}, with weight decay {on_dead(grads):.1e}")
assert norms["all biases nonzero"][0] > 0.01 < norms["only the state nonzero"][0]
assert norms["only b' nonzero"][0] == 0 < norms["only b' nonzero"][1]
assert norms["everything zero"] == (0, 0)

# %% [markdown]
# ## Learning the width
#
# Now the whole method, on an artificial text of our 7 words: "the cat sees a dog ." with two
# different animals of three. Only the animals are uncertain, with $\log 3 + \log 2$ nats in six
# words. To know that a cat does not see a cat, the network has to remember the subject while it
# reads "sees a"; without this memory the loss is $2 \log 3$.
#
# We start with width 16. Each step is a clipped gradient step on the loss, with weight decay, and
# then the exact proximal step. Units that die are removed at once, and training continues with
# smaller arrays. In a second, shorter run the dead units are kept as zeros. According to the
# previous section they have no influence, so both runs should agree.

# %%
rng = np.random.default_rng(3)
animals = [rng.choice(["cat", "dog", "bird"], 2, replace=False) for _ in range(16 * 60)]
said = " ".join(f"the {one} sees a {other} ." for one, other in animals)
text = np.array([WORDS.index(word) for word in said.split()]).reshape(16, 360).T  # (time, batch)
WINDOW, RATE, STRENGTH = 24, 0.2, 0.04


def train(steps, remove):
    """Return the final layout, and for each step the loss of a word and the units alive."""
    start = ptb_rhn.Config(V, 16, D, init_scale=0.3)
    now, curve, state = ptb_rhn.layout(start), [], {}
    params = ptb_rhn.init_params(start, now, np.random.default_rng(2))
    for step in range(steps):
        place = step * WINDOW % (len(text) - WINDOW)
        state = state if place > 0 else ptb_rhn.zero_state(params, 16)
        read, aims = text[place : place + WINDOW], text[place + 1 : place + WINDOW + 1]
        (loss, state), backward = ptb_rhn.loss(params, state, tokens=read, targets=aims)
        grads, _ = backward(1.0)
        add_weight_decay(grads, params, 1e-7)
        params = sgd(params, grads, RATE * clip_scale(global_norm(grads), 10.0))
        groups, carried = iss_groups(now, ["width"]), ptb_rhn.state_layout(now, 16)
        params, certificate = prox(params, groups, RATE * STRENGTH)
        alive_masks = groups.split(~certificate.dead)
        state, _ = remove(state, carried, alive_masks)
        params, now = remove(params, now, alive_masks)
        curve.append((loss / WINDOW, int(alive_masks["width"].sum())))
    return now, np.array(curve).T


learnt, (losses, widths) = train(1200, remove=compact)
_, same = train(450, remove=lambda values, axes, masks: (zero_dead(values, axes, masks), axes))
apart = np.abs(np.stack((losses, widths))[:, :450] - same).max()
at_best, memoryless, trained = np.log(6) / 6, np.log(9) / 6, losses[-100:].mean()
counts = [learnt.resized({"width": width}).parameters() for width in (16, learnt.sizes["width"])]
print(f"width 16 -> {learnt.sizes['width']}, parameters {counts[0]} -> {counts[1]}")
print(f"nats for a word: trained {trained:.3f}, best {at_best:.3f}, memoryless {memoryless:.3f}")
print(f"difference of the two runs: {apart:.0e}, with {int(same[1, -1])} units alive at the end")
assert learnt.sizes["width"] == 8
assert counts == [2263, 623]
assert [f"{nats:.3f}" for nats in (trained, at_best, memoryless)] == ["0.315", "0.299", "0.366"]
assert apart < 1e-9

# %% tags=["hide-input"]
figure, (above, below) = plt.subplots(2, 1, figsize=(7.5, 3.9), sharex=True, height_ratios=(3, 2))
passes = losses[: 85 * 14].reshape(85, 14).mean(axis=1)  # 14 windows are one pass over the text
above.plot(14 * np.arange(1, 86), passes, color=COLOURS[0])
for level, name, up in ((at_best, "best possible", -11), (memoryless, "no memory", 3)):
    above.axhline(level, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)))
    place = {"xytext": (0, up), "textcoords": "offset points", "ha": "right"}
    above.annotate(name, (1200, level), **place, color="#555555")
above.set(ylim=(0.28, 0.42), title="loss of a word in nats, mean over each pass of the text")
below.step(np.arange(1, 1201), widths, color=COLOURS[1], where="post")
below.set(ylim=(0, 17), xlim=(0, 1200), xlabel="step", title="width")
figure.savefig(FIGURES / "7_training.png")

# %% [markdown]
# Half of the units have been removed, the loss does not change visibly when a unit dies, and the
# network still remembers the subject. (From another seed it may end in a worse minimum, without
# this memory.) One reason that the loss stays a little above the best possible one is the penalty,
# which also shrinks the units that are alive.
#
# ## A network that is not in the paper: the GRU
#
# The *gated recurrent unit* of Cho et al. (2014) has a reset gate $r$, an update gate $z$ and a
# candidate $n$, and its output is its only state:
#
# $$r = \sigma(x K_r + h\,U_r + b_r), \qquad z = \sigma(x K_z + h\,U_z + b_z),$$
# $$n = \tanh(x K_n + b_n + r\,(h\,U_n + c_n)), \qquad h \leftarrow (1 - z)\,n + z\,h.$$
#
# This is the form of cuDNN, PyTorch and Flax. In the paper of 2014 the reset acts before the
# product: $n = \tanh(x K_n + b_n + (r\,h)\,U_n)$, another function of the same matrices, with one
# bias fewer. We write down what one unit of the first of two layers owns, and compare it with an
# LSTM's.

# %%
sizes = {"vocabulary": V, "embed_size": 3, "hidden_sizes": (4, 4)}
stacks = {
    "LSTM": (ptb_lstm, ptb_lstm.layout(ptb_lstm.Config(**sizes))),
    "GRU, reset after": (ptb_gru, ptb_gru.layout(ptb_gru.Config(**sizes))),
    "GRU, reset before": (ptb_gru, ptb_gru.layout(ptb_gru.Config(**sizes), reset_after=False)),
}
owned = []
for title, (model, stack) in stacks.items():
    space = model.spaces(stack.axes)[0]
    owned.append(group_size(stack, space))
    owned.append(stack.parameters() - stack.resized({space: 3}).parameters() - owned[-1])
    columns = stack.spell(f"{space}/kernel").partition(", ")[2]
    print(f"{title:17} columns {columns}: {owned[-2]} weights in a group, {owned[-1]} biases")
assert owned == [56, 4, 42, 4, 42, 3]

# %% [markdown]
# One gate fewer makes a group a quarter smaller: it has $3 (E + H) + 6 H - 3$ weights instead of $4
# (E + H) + 8 H - 4$. The second bias of the candidate is removed with the unit. A unit has the same
# readers as in an LSTM: its recurrent row, and its row in the next kernel. In the first form $r_k$
# multiplies what unit $k$ receives from the recurrent product, in the second what it sends into it.
# In both forms the unit sends nothing if these two rows are zero. So we remove a unit that has
# random columns and biases, and the outputs stay the same.

# %%
for title in ("GRU, reset after", "GRU, reset before"):
    stack = stacks[title][1]
    drawn = np.random.default_rng(5)
    dense = {array: drawn.normal(0, 0.8, stack.shape(array)) for array in stack.axes}
    dense["gru0/kernel"][3 + 1] = 0  # rows of the embedding, then of the units
    dense["gru1/kernel"][1] = 0
    alive_masks = alive(dense, iss_groups(stack, ptb_gru.spaces(stack.axes)), ptb_gru.READERS)
    narrow, narrow_stack = compact(dense, stack, alive_masks)
    outputs = []
    for one in (dense, narrow):
        no_state, words = ptb_gru.zero_state(one, 1), np.arange(V)[:, None]
        outputs.append(ptb_gru.logits(one, no_state, tokens=words)[0][0])
    change = np.abs(outputs[0] - outputs[1]).max()
    print(f"{title}: {narrow_stack.sizes['gru0']} units, logits change by {change:.0e}")
    assert narrow_stack.sizes["gru0"] == 3
    assert change < 1e-13

# %% [markdown]
# ## Exercise
#
# 1. Give the softmax a kernel of its own, of shape $(W, V)$: `Config(tied=False)`. Which slices
#    read a unit now, and what is the role of the embedding column?
# 2. How many weights are in its group, and how many parameters are removed with the unit?
# 3. In the untied network $x_t$ need not be as long as $s_t$. Let the layout have two spaces,
#    `embed` and `width`, of sizes $E$ and $W$. Which two of its lines change, and how? What reads a
#    component of `embed`? How large are the groups?
#
# Try to answer before you read on.
#
# ### Answer
#
# 1. The input row, the state rows, and the row of `softmax/kernel`: rows only, as in an LSTM. The
#    embedding column only computes the unit, like the columns of $H_d$ and $T_d$, and may be
#    anything.
# 2. The row of the softmax is new: $|G| = 2 V + 4 (D + 1) W - 2 (D + 1)$, and $2 D$ biases are
#    removed, too.
# 3. The axes of `embed/kernel` are now `word, embed`, and the axes of `micro0/kernel` are
#    `embed + width, 2 width`. A component of `embed` is read by its row of `micro0/kernel` alone,
#    so its group has $V + 2 W$ weights. A group of `width` no longer contains the embedding column
#    and the input row, and its columns in micro-layer 0 have length $E + W$: it has
#    $V + 2 E + 4 D W - 2 D$ weights.

# %%
untied = ptb_rhn.layout(ptb_rhn.Config(V, W, D, tied=False))
gone = untied.parameters() - untied.resized({"width": W - 1}).parameters()
print(f"untied: {group_size(untied, 'width')} weights in a group, {gone} parameters in all")
assert group_size(untied, "width") == 2 * V + 4 * (D + 1) * W - 2 * (D + 1) == 70
assert gone == 70 + 2 * D == 76

named = {**untied.axes, "embed/kernel": (("word",), ("embed",))}
named["micro0/kernel"] = (("embed", "width"), 2 * ("width",))
free = Layout(named, {**untied.sizes, "embed": 5})
for array in ("embed/kernel", "micro0/kernel"):
    print(f"{array:15} {free.shape(array)!s:8} axes: {free.spell(array)}")
print(f"two sizes: groups of {group_size(free, 'embed')} and {group_size(free, 'width')} weights")
assert free.spell("micro0/kernel") == "embed + width, 2 width"
assert group_size(free, "embed") == V + 2 * W == 15
assert group_size(free, "width") == V + 2 * 5 + 4 * D * W - 2 * D == 59

random = {array: rng.normal(0, 0.8, free.shape(array)) for array in free.axes}
random["micro0/kernel"][1] = 0  # nothing reads component 1 of the embedding
alive_masks = alive(random, iss_groups(free, ["embed", "width"]), ptb_rhn.UNTIED_READERS)
narrow, narrow_layout = compact(random, free, alive_masks)
(full, _), _ = ptb_rhn.logits(random, state, tokens=tokens)
(cut, _), _ = ptb_rhn.logits(narrow, state, tokens=tokens)
print(f"sizes {dict(narrow_layout.sizes)}, a logit changes by {np.abs(full - cut).max():.0e}")
assert narrow_layout.sizes == {"word": 7, "embed": 4, "width": 4}
assert np.abs(full - cut).max() < 1e-13

# %% [markdown]
# ## What to take away
#
# - A new network needs two things: a layout of its axes, and a list of what reads a unit. If its
#   outputs change when you remove a dead unit, one of the two is wrong.
# - A reader is any slice that multiplies the unit's output: a row of the next kernel, or a column
#   of a tied embedding.
# - A dead unit stays dead if its biases and its carried state are zero, too.
#
# ## Where to go next
#
# - [Tutorial 8](8_attention.py) finds the readers of a unit in a network with attention.
# - `python -m issref.train_ptb --small --model rhn` trains a highway network on Penn TreeBank.
# - `issref/ops/rhn.py` and `issref/ops/gru.py` contain the backward passes,
#   `issref/models/ptb_rhn.py` and `issref/models/ptb_gru.py` layouts and readers.
# - [Tutorial 4](4_proximal_steps.py) derives the proximal step, which decided here which units die.
