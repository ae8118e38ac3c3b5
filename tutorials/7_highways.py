# %% [markdown]
# # 7. Highways and attention: the same table
#
# Tutorial 1 removed a unit from an LSTM. All the information about LSTMs that it needed was in one
# table, the layout. Here we apply the same method to two networks with other structures, the other
# two networks of Wen et al. (arXiv 1709.05027, sections 4.1 and 4.2). In the *recurrent highway
# network* of Zilly et al. (2017) one unit extends from the embedding through every layer to the
# softmax. In *BiDAF*, a network with attention, the output of a unit at one word is read at all
# other words.
#
# **You will learn** to write down the layout of another network and the list of what reads a unit
# in it; which arrays have to be zero for a dead unit to stay dead; and how the functions of
# tutorials 1, 4 and 6 do the rest. You will also see the effect of one forgotten reader: in the
# groups that were released with the paper one is missing, and removing a unit by these groups
# changes the answers.
#
# **You need** [tutorial 1](1_one_unit.py), and [tutorial 6](6_compaction.py), which shows that
# compaction changes nothing. It takes 30 minutes to read and less than a minute to run. Every
# number in the text is computed below, and an `assert` next to it checks it.

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from issref import Layout, alive, compact, group_norms, iss_groups, prox, zero_dead
from issref.models import bidaf, ptb_rhn
from issref.ops.attention import (
    attention_flow,
    attention_pool,
    context_to_query,
    max_over_question,
    similarity,
)
from issref.ops.rhn import GATES, rhn
from issref.report import COLOURS, STYLE
from issref.training.optimizers import add_weight_decay, clip_scale, global_norm, sgd
from issref.verify.released import bidaf_variables, rhn_variables, write_groups

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
# In the language model, $x_t$ is the row of the embedding $E$ for the input word, and the logits of
# the next word are $s_t E^\top + b$. Both use the same $E$, of shape $(V, W)$ for $V$ words: input
# and output embeddings are *tied*. An LSTM language model has one size for the embedding and one
# for each layer. Here there is only one size, for two reasons.
#
# - *The carry.* $s + t (h - s)$ is taken entry by entry, so entry $k$ of $h$ and $t$ in every
#   micro-layer (column $k$ of $H_d$, column $k$ of $T_d$) belongs to entry $k$ of $s$. And all
#   micro-layers share $s$: row $k$ of each $H_d$ and $T_d$ reads the same entry.
# - *The tied embedding.* In micro-layer 0, $x_t$ has rows of its own, so the width of the input
#   could differ from the width of $s$. The softmax does not allow this: a row of $E$ is the input
#   $x_t$ when its word is read, and is multiplied by $s_t$ when its word is predicted. So $x_t$ is
#   as long as $s_t$, and column $k$ of $E$ belongs to entry $k$ of both.
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

# %%
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
# with all four masks. They are *variational*: drawn once for each sentence, the same at every step
# and in every micro-layer. So the masks of input, state and output have the shape (sentences,
# width), and their column for unit 2 must be removed, too. They have a layout, and `compact` cuts
# them, like the carried state. (The mask of words has one number for each input word, and no
# width.)

# %%
masks = ptb_rhn.draw_masks(config, dict(layout.sizes), rng, STEPS, BATCH)
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
mixed_up = difference(network, small, wrong_masks)
print(f"masks cut in the wrong place: a logit changes by {mixed_up:.2f}")
assert mixed_up > 1

# %% [markdown]
# ## Why dead units stay dead
#
# In training, the proximal step makes a whole group zero. Biases are in no group, and the biases of
# the transform gates start at $-2$, far from zero. Does a unit with nonzero biases become nonzero
# again? Its entry of $h$ is then $\tanh(b_d[k])$, so $s[k]$ moves away from zero. The gradient of a
# reader contains the factor $s[k]$, so the next step can make the reader nonzero, and the unit is
# alive again.
#
# If $b_d[k]$ is zero, $h[k] = \tanh(0) = 0$, and from $s[k] = 0$ the state moves by $t\,(0 - 0)$,
# whatever $t$ is: it stays zero, and no gradient reaches the readers. As the readers are zero
# themselves, no gradient passes through them to $h$ and $t$ either. Every gradient is exactly zero,
# even with a nonzero $b'_d[k]$. But weight decay acts on every bias (in the released code, with
# $10^{-7}$). This changes the norm of the whole gradient, by which training clips it, and so a dead
# unit would influence the others. A nonzero carried state would also give the readers a gradient.
# So `zero_dead` sets *all* slices of a dead unit to zero: both biases and, with a layout of its
# own, the state.


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
# smaller arrays. In a second, shorter run the dead units are kept as zeros. According to the last
# section they have no influence, so both runs should agree.

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

# %%
figure, (above, below) = plt.subplots(2, 1, figsize=(7.5, 3.9), sharex=True, height_ratios=(3, 2))
passes = losses[: 85 * 14].reshape(85, 14).mean(axis=1)  # 14 windows are one pass over the text
above.plot(14 * np.arange(1, 86), passes, color=COLOURS[0])
for level, name, side in ((at_best, "best possible", "top"), (memoryless, "no memory", "bottom")):
    above.axhline(level, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)))
    above.text(1200, level, name, ha="right", va=side, color="#555555")
above.set(ylim=(0.28, 0.42), title="loss of a word in nats, mean over each pass of the text")
below.step(np.arange(1, 1201), widths, color=COLOURS[1], where="post")
below.set(ylim=(0, 17), xlim=(0, 1200), xlabel="step", title="width")
figure.savefig(FIGURES / "7_training.png")

# %% [markdown]
# Half of the units have been removed, the loss does not change visibly when a unit dies, and the
# network still remembers the subject. (From another seed it may end in a worse minimum, without
# this memory.) The loss stays a little above the best possible one, because the penalty also
# shrinks the units that are alive.
#
# ## A network with attention
#
# The paper's third network, BiDAF (Seo et al., 2017), answers a question about a text: it predicts
# the first and the last word of the answer in the text. Four LSTMs, `h`, `g0`, `g1` and `g2`, read
# the text in both directions. Their outputs $h_t$, $g^0_t$, $g^1_t$, $g^2_t$ hold the $d$ units
# that read forward (`.fw`) and then the $d$ that read backward (`.bw`). `h` also reads the
# question, and its outputs there are $u_j$ for each word. (The input of `h` is a vector from a
# table and one that is computed from the letters of the word. ISS removes no unit there, so we omit
# it.) The attention combines the two:
#
# $$s_{tj} = [h_t,\; u_j,\; h_t u_j]\, w + b, \qquad
#   \tilde u_t = \sum_j \mathrm{softmax}_j(s_{tj})\, u_j, \qquad
#   \tilde h = \sum_t \mathrm{softmax}_t\bigl(\max_j s_{tj}\bigr)\, h_t.$$
#
# (Products of vectors are taken entry by entry.) $s_{tj}$ scores how well two words match, $\tilde
# u_t$ is a mean of the question, weighted for word $t$, and $\tilde h$ is a mean of the text,
# weighted for the question. All later layers read $p_t = [h_t,\, \tilde u_t,\, h_t \tilde u_t,\,
# h_t \tilde h]$, of width $8d$ and called `p0` below:
#
# $$g^0 = \mathrm{LSTM}(p), \qquad g^1 = \mathrm{LSTM}(g^0), \qquad
#   \mathrm{start}_t = [g^1_t,\, p_t]\, w_s + b_s,$$
# $$a = \sum_t \mathrm{softmax}_t(\mathrm{start})\, g^1_t, \qquad
#   g^2 = \mathrm{LSTM}([p_t,\; g^1_t,\; a,\; g^1_t a]), \qquad
#   \mathrm{end}_t = [g^2_t,\, p_t]\, w_e + b_e.$$
#
# To predict the end it helps to know the start. So $a$ selects the $g^1$ of the first word of the
# answer *softly*, as a mean weighted by the probabilities of the start; `g2` reads it at every
# word.
#
# Here are these means for a tiny text. A word is a one-hot vector, and $w$ gives $s_{tj} = 4$ for
# two equal words and 0 otherwise. Then the entries of each mean are its weights: the entry for a
# word is the weight of that word. We choose the logits of the start, 3 for "dog" and 0 for the
# others.

# %%
said_words, asked_words = ["the", "cat", "sees", "a", "dog", "."], ["cat", "sees"]
in_text, in_question = ([WORDS.index(w) for w in words] for words in (said_words, asked_words))
h, u = np.eye(V)[in_text][:, None], np.eye(V)[in_question][:, None]  # (words, batch of one, V)
lengths, question_lengths = np.array([len(h)]), np.array([len(u)])
kernel, bias = np.concatenate([np.zeros(2 * V), np.full(V, 4.0)])[:, None], np.zeros(1)

scores, _ = similarity(h, u, kernel, bias)
seen, _ = context_to_query(scores, u, lengths=question_lengths)
best, _ = max_over_question(scores, lengths=question_lengths)
focus, _ = attention_pool(best, h, lengths=lengths)
start = 3.0 * (np.array(said_words) == "dog")[:, None]
selected, _ = attention_pool(start, h, lengths=lengths)

columns = {
    "$s_{tj}$": scores[0],
    r"weights in $\tilde u_t$": seen[:, 0, in_question],
    r"in $\tilde h$": focus[0, in_text, None],
    "in $a$": selected[0, in_text, None],
}
print("       s for cat, sees    in u~     in h~   in a")
for word, row in zip(said_words, np.hstack(list(columns.values())), strict=True):
    print(f"{word:6}", "  ".join(f"{value:6.2f}" for value in row))
assert [f"{row[0]:.2f}" for row in seen[:2, 0, in_question]] == ["0.50", "0.98"]
assert f"{focus[0, WORDS.index('sees')]:.2f}" == "0.48"
assert f"{selected[0, WORDS.index('dog')]:.2f}" == "0.80"

p, _ = attention_flow(h, u, kernel, bias, lengths=lengths, question_lengths=question_lengths)
assert np.array_equal(p, np.concatenate([h, seen, h * seen, h * focus], axis=-1))

# %%
widths_of = [values.shape[1] for values in columns.values()]
figure, panels = plt.subplots(1, 4, figsize=(7.5, 3.0), width_ratios=widths_of, sharey=True)
for axes, (title, values) in zip(panels, columns.items(), strict=True):
    axes.pcolormesh(values, cmap="Blues", vmin=0, vmax=2 * values.max(), edgecolors="white")
    for (t, j), value in np.ndenumerate(values):
        axes.text(j + 0.5, t + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=8)
    names = asked_words if len(values[0]) == 2 else []
    axes.set_xticks(np.arange(len(names)) + 0.5, names)
    axes.set_yticks(np.arange(6) + 0.5, said_words)
    axes.set(title=title, ylim=(6, 0), frame_on=False)
    axes.tick_params(length=0, grid_alpha=0)
figure.savefig(FIGURES / "7_attention.png")

# %% [markdown]
# For "cat" nearly all weight is on "cat", a word that is not in the question weights both words
# equally, and for the question the weight is on its own two words. (In the real network $h_t$ and
# $u_j$ depend on their neighbours, and $w$ is learnt.) Look at the last column. **$a$ is computed
# from $g^1$ at all words, and is read at all words.** The output of a unit at "dog" reaches `g2` at
# "the". This path is easily forgotten.
#
# ## What reads a unit of `g1`
#
# ISS learns the widths of `g0`, `g1` and `g2` in each direction: six spaces. Here is the layout,
# for $d = 2$.

# %%
small_config = bidaf.Config(V, 2, 28, char_size=2, char_width=3, filters=2, hidden_size=2, keep=1.0)
qa = bidaf.layout(small_config)
P0 = " + ".join(4 * ["h.fw + h.bw"])
for array in qa.axes:
    if array.endswith("kernel") and array[0] in "gse":
        print(f"{array:13} {qa.shape(array)!s:8} axes: {qa.spell(array).replace(P0, 'p0')}")
assert qa.shape("g2.fw/kernel") == (8 * 2 + 3 * 4 + 2, 4 * 2)
print("readers:", bidaf.READERS)

# %% [markdown]
# The rows of `g2` contain the units of `g1` three times: as $g^1_t$, as $a$ and as $g^1_t a$. Entry
# $k$ of $a$ is a mean of entry $k$ of $g^1_t$, so it belongs to the same unit, and its rows are in
# the same space. The figure marks unit 1 of `g1.fw` in all arrays.

# %%
UNIT = 1
READ = {
    "gate columns: compute the unit": COLOURS[0],
    "read by itself, one step later": COLOURS[4],
    "as $g^1_t$": COLOURS[2],
    "as $a$: the attended row": COLOURS[1],
    "as $g^1_t a$": COLOURS[3],
    "gate column and own row": "#1B1B3A",
}
figure, panels = plt.subplots(1, 4, figsize=(7.8, 4.9), width_ratios=(9, 5, 9, 9))
row_count = 0
for axes, name in zip(panels, ("g1.fw", "start", "g2.fw", "g2.bw"), strict=True):
    kinds = np.zeros(qa.shape(f"{name}/kernel"), int)
    found = [place for place in qa.occurrences("g1.fw") if place.array == f"{name}/kernel"]
    places = [place.segment.start + UNIT for place in found if place.axis == 0]
    gates = [place.segment.start + UNIT for place in found if place.axis == 1]
    for kind, place in zip((2,) if gates else (3, 4, 5), places, strict=name != "start"):
        kinds[place] = kind
    kinds[:, gates] = 1
    kinds[np.ix_(places if gates else [], gates)] = 6
    row_count += len(places)
    look = {"cmap": ListedColormap(["#E6E6E6", *READ.values()]), "vmin": 0, "vmax": len(READ)}
    axes.pcolormesh(kinds, edgecolors="white", linewidth=0.8, **look)
    parts = {"g1.fw": (("g0", 4), ("state", 2)), "start": (("g1", 4), ("p0", 16))}
    rest = (("p0", 16), ("g1", 4), ("a", 4), ("g1 * a", 4), ("state", 2))
    labels, sizes = zip(*parts.get(name, rest), strict=True)
    ends = np.cumsum(sizes)
    axes.hlines(ends[:-1], 0, kinds.shape[1], color="#555555", linewidth=1)
    axes.set_yticks(ends - np.array(sizes) / 2, labels)
    axes.set(title=f"{name}/kernel", xlim=(0, 8), ylim=(30, 0), aspect="equal", xticks=[])
    axes.set(anchor="N", frame_on=False)
    axes.tick_params(length=0, grid_alpha=0)
legend = [Patch(color=colour, label=name) for name, colour in READ.items()]
figure.legend(handles=legend, loc="outside lower center", frameon=False, ncols=3, fontsize=8)
figure.savefig(FIGURES / "7_readers.png")
print(f"unit 1 of g1.fw is read by {row_count} rows")
assert row_count == 8

# %% [markdown]
# Eight rows read it: its own recurrent row, one row for the start, and three in each direction of
# `g2`. All of them have to be zero before the unit can be removed, and all are in its group. A row
# of an LSTM's kernel has $4d$ weights, and 4 crossings count once, so the sizes are
#
# $$|G_{g0}| = 4 \cdot 9d + 3 \cdot 4d - 4, \quad
#   |G_{g1}| = 4 \cdot 3d + 7 \cdot 4d + 1 - 4, \quad
#   |G_{g2}| = 4 \cdot 15d + 4d + 1 - 4.$$
#
# Here, too, the authors' code reads its groups from a file. In this file the attended rows are in
# no group. (Our layout for `groups="released"` writes them as `~g1.fw`: removed with the unit, but
# not counted.) We generate the file for the authors' $d = 100$, add up its entries, and count the
# weights as sets.

# %%
FIRST = ("g0.fw", "g1.fw", "g2.fw")  # the backward directions have the same sizes
released_file = bidaf_variables(100)
families = json.loads(write_groups(released_file, bidaf.LEARNED))["groups"]
by_space = dict(zip(bidaf.LEARNED, families, strict=True))
by_file = {
    space: sum(released_file.shape(entry["var_name"])[entry["axis"]] for entry in by_space[space])
    for space in FIRST
}
real = {groups: bidaf.layout(bidaf.Config(), groups) for groups in ("released", "all")}


def set_size(layout, space):
    """Count the weights in the group of one component, by the norm of a group of ones."""
    groups = iss_groups(layout, [space])
    ones = {array: np.broadcast_to(1.0, layout.shape(array)) for array in groups.ids}
    return round(group_norms(ones, groups)[0] ** 2)


as_sets = {name: [set_size(layout, space) for space in FIRST] for name, layout in real.items()}
print("groups of g0, g1, g2")
print(f"by the file:     {list(by_file.values())}")
print(f"the same as sets {as_sets['released']}")
print(f"with all readers {as_sets['all']}")
assert list(by_file.values()) == [4800, 3201, 6401]
assert as_sets["released"] == [4796, 3197, 6397]
assert as_sets["all"] == [4796, 3997, 6397]
assert as_sets["all"] == [48 * 100 - 4, 40 * 100 - 3, 64 * 100 - 3]

# %% [markdown]
# 800 weights are missing from each group of `g1`, two rows of 400. The penalty does not act on
# them, and they are not checked when a unit is declared dead.
#
# ## A removal that changes the answer
#
# Does it matter? The output of a unit whose columns are zero no longer depends on the text, but its
# biases can still make it nonzero, and the attended rows read it. We test the released groups and
# ours on a network with random weights and biases. The texts are 16 pairs of sentences from above;
# the question is the beginning of the second sentence. We set the whole *group* of every other unit
# of `g1` to zero, as a proximal step would, find the dead units with `alive`, and remove them. We
# repeat this with the released groups after setting the biases of these units to zero.


# %%
def as_text(tokens):
    """Return words (T, B) with their letters: 2 for "a" and so on, 1 for the full stop."""
    spelled = [[max(ord(c) - ord("a") + 2, 1) for c in word] for word in WORDS]
    letters = np.array([word + [0] * (4 - len(word)) for word in spelled])
    return bidaf.Text(tokens, letters[tokens], np.full(tokens.shape[1], len(tokens)))


def answer(params):
    """Return the logits of start and end, (2, T, B), and the ends of the most likely span."""
    logits, _ = bidaf.logits(params, context=context, question=question, vectors=np.zeros((0, 4)))
    return np.array(logits), np.array(bidaf.best_span(*logits)[:2])


context, question = as_text(text[:12]), as_text(text[6:9])
config = bidaf.Config(V, 4, 28, char_size=2, char_width=3, filters=4, hidden_size=6, keep=1.0)
draw = np.random.default_rng(3)
dense = bidaf.layout(config).allocate()
for array, values in dense.items():
    values[...] = draw.normal(0, 1 if array.endswith("bias") else 0.5, values.shape)

moved, ends = {}, {}
for case in ("released", "released, biases zero", "all"):
    layout = bidaf.layout(config, case.partition(",")[0])
    network = {array: values.copy() for array, values in dense.items()}
    for space in ("g1.fw", "g1.bw"):
        for array, axis, (_, first, end, counted) in layout.occurrences(space):
            if counted or ("zero" in case and array == f"{space}/bias"):
                network[array].swapaxes(0, axis)[first:end:2] = 0
    masks = alive(network, iss_groups(layout, bidaf.LEARNED))
    assert [int(units.sum()) for units in masks.values()] == [6, 6, 3, 3, 6, 6]
    small, _ = compact(network, layout, masks)
    (full, spans), (cut, others) = answer(network), answer(small)
    moved[case], ends[case] = np.abs(full - cut).max(axis=(1, 2)), (full[1, :, 0], cut[1, :, 0])
    changed = int((spans != others).any(axis=0).sum())
    amounts = "start {:7.2g}, end {:7.2g}".format(*moved[case])
    print(f"{case:22}  largest change: {amounts}   changed answers: {changed} of 16")
    assert changed == (6 if case == "released" else 0)
assert f"{moved['released'][1]:.2g}" == "0.46"
assert max(moved["released"][0], *moved["released, biases zero"], *moved["all"]) < 1e-12

# %%
figure, panels = plt.subplots(1, 2, figsize=(7.5, 2.9), sharey=True)
for axes, case in zip(panels, ("released", "all"), strict=True):
    axes.plot(ends[case][0], "o", color=COLOURS[0], markersize=9, fillstyle="none", label="before")
    axes.plot(ends[case][1], "x", color=COLOURS[1], label="after")
    axes.set_xticks(range(12), [WORDS[word] for word in context.words[:, 0]], rotation=60)
    axes.set_title(f"logits of the end, groups: {case}")
panels[1].legend(frameon=False, title="removal")
figure.savefig(FIGURES / "7_answer.png")

# %% [markdown]
# With the released groups the logits of the end change, and so do 6 of 16 answers. The logits of
# the start do not change: no attended row leads to them. With all readers in the group, only the
# last bits change, whatever the biases are. (The crosses are the same in both panels, because the
# removal deletes all slices of a unit, including the attended rows.) The middle line of the output
# shows how this can go unnoticed: with zero biases, as at the start of training, the output of a
# unit with zero columns is zero, and even a wrong group passes the test, as in [tutorial
# 6](6_compaction.py).
#
# `alive` checks only the readers that the layout counts. With the layout that counts all of them,
# the same units are alive.

# %%
released = {array: values.copy() for array, values in dense.items()}
for array, axis, (_, first, end, counted) in bidaf.layout(config, "released").occurrences("g1.fw"):
    if counted:
        released[array].swapaxes(0, axis)[first:end:2] = 0
for case in ("released", "all"):
    groups = iss_groups(bidaf.layout(config, case), bidaf.LEARNED)
    units = alive(released, groups, bidaf.READERS)["g1.fw"]
    print(f"readers of the groups {case:8}: {int(units.sum())} of 6 alive")
    assert units.sum() == (3 if case == "released" else 6)

# %% [markdown]
# ## How the paper counts weights
#
# The paper reports the remaining units and weights (its tables 3 and 4). A weight is counted if it
# is in no dead group. The attended rows are in no group, so the attended rows of removed units
# count as remaining weights. We can count in the same way with the layout: give the attended rows a
# space of their own, which does not shrink. Two sizes are not in the paper, the number of
# characters and the number of words with a learnt vector. We choose them so that the dense network
# has 2.686 million weights, the value that agrees with all numbers in the paper.

# %%
TABLE = {  # remaining units of 100: g0.fw, g0.bw, g1.fw, g1.bw, g2.fw, g2.bw; millions as printed
    (100, 95, 78, 82, 71, 52): 2.08,
    (84, 90, 38, 46, 34, 21): 1.48,
    (54, 47, 22, 30, 18, 12): 1.03,
    (52, 50, 19, 26, 15, 12): 1.01,
    (87, 81, 87, 92, 74, 96): 2.29,
    (51, 33, 42, 58, 37, 26): 1.17,
    (20, 33, 40, 38, 31, 16): 0.95,
    (23, 22, 35, 35, 25, 14): 0.88,
}
compacted = bidaf.layout(bidaf.Config(trainable=1133, characters=254), "released")
uncut = {
    array: (tuple("attended" if space[0] == "~" else space for space in axes[0]), axes[1])
    for array, axes in compacted.axes.items()
    if array in ("g2.fw/kernel", "g2.bw/kernel")
}
counted = Layout({**compacted.axes, **uncut}, {**compacted.sizes, "attended": 100})
assert f"{counted.parameters() / 1e6:.3f}" == "2.686"
print(f"dense: {counted.parameters() / 1e6:.3f} million")
print("remaining units          paper  counted so  compact model")
sizes_of = []
for units, printed in TABLE.items():
    remaining = dict(zip(bidaf.LEARNED, units, strict=True))
    sizes_of.append([one.resized(remaining).parameters() / 1e6 for one in (counted, compacted)])
    print(f"{units!s:25} {printed:4.2f}  {sizes_of[-1][0]:10.3f}  {sizes_of[-1][1]:13.3f}")
    assert f"{sizes_of[-1][0]:.2f}" == f"{printed:.2f}" != f"{sizes_of[-1][1]:.2f}"
assert [f"{size:.3f}" for size in sizes_of[1]] == ["1.478", "1.453"]

# %% [markdown]
# Counted in this way, all eight rows agree with the paper, and in each of them the compact model is
# smaller than the printed size. But it is the same network only if the attended rows of the removed
# units are zero. With the released groups nothing makes them zero, so one has to choose: keep these
# rows and the units that they read, or accept changed answers. With all readers in the groups this
# problem does not arise.
#
# ## Exercise
#
# The first three are about the highway network, the last about BiDAF.
#
# 1. Give the softmax a kernel of its own, of shape $(W, V)$: `Config(tied=False)`. Which slices
#    read a unit now, and what is the role of the embedding column?
# 2. How many weights are in its group, and how many parameters are removed with the unit?
# 3. In the untied network $x_t$ need not be as long as $s_t$. Write the layout with two spaces,
#    `embed` and `width`, of sizes $E$ and $W$. What reads a component of `embed`? How large are the
#    groups?
# 4. How many rows read a unit of `g0` in BiDAF, and how many a unit of `g2`? Suppose `g2` did not
#    read the product $g^1_t a$: how many weights would be in a group of `g1`, for $d = 100$? The
#    same number occurs above. Is it the same set?
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
# 3. Two lines change. A component of `embed` is read by its row of `micro0/kernel` alone, so its
#    group has $V + 2 W$ weights. A group of `width` no longer contains the embedding column and the
#    input row, and its columns in micro-layer 0 have length $E + W$: it has $V + 2 E + 4 D W - 2 D$
#    weights.
# 4. Three rows read a unit of `g0`: its own and one in each direction of `g1`. Two rows read a unit
#    of `g2`: its own and one for the end. (`g2.fw` and `g2.bw` do not read each other.) Without the
#    product, a unit of `g1` has two readers of $4d$ weights less, so $3997 - 800 = 3197$ weights
#    remain. The released group has the same size but is another set: it contains the product's rows
#    and not the rows of $a$.

# %%
untied = ptb_rhn.layout(ptb_rhn.Config(V, W, D, tied=False))
gone = untied.parameters() - untied.resized({"width": W - 1}).parameters()
print(f"untied: {group_size(untied, 'width')} weights in a group, {gone} parameters in all")
assert group_size(untied, "width") == 2 * V + 4 * (D + 1) * W - 2 * (D + 1) == 70
assert gone == 70 + 2 * D == 76

named = {**untied.axes, "embed/kernel": (("word",), ("embed",))}
named["micro0/kernel"] = (("embed", "width"), 2 * ("width",))
free = Layout(named, {**untied.sizes, "embed": 5})
print(f"two sizes: groups of {group_size(free, 'embed')} and {group_size(free, 'width')} weights")
assert group_size(free, "embed") == V + 2 * W == 15
assert group_size(free, "width") == V + 2 * 5 + 4 * D * W - 2 * D == 59

random = {array: rng.normal(0, 0.8, free.shape(array)) for array in free.axes}
random["micro0/kernel"][1] = 0  # nothing reads component 1 of the embedding
masks = alive(random, iss_groups(free, ["embed", "width"]), ptb_rhn.UNTIED_READERS)
narrow, narrow_layout = compact(random, free, masks)
(full, _), _ = ptb_rhn.logits(random, state, tokens=tokens)
(cut, _), _ = ptb_rhn.logits(narrow, state, tokens=tokens)
print(f"sizes {dict(narrow_layout.sizes)}, a logit changes by {np.abs(full - cut).max():.0e}")
assert narrow_layout.sizes == {"word": 7, "embed": 4, "width": 4}
assert np.abs(full - cut).max() < 1e-13

# %%
read_by = []
for space in FIRST:
    read_by.append(sum(axis == 0 and place.counted for _, axis, place in qa.occurrences(space)))
print(f"rows that read a unit of g0, g1, g2: {read_by}")
assert read_by == [3, 8, 2]

axes_of = dict(real["all"].axes)
for array in ("g2.fw/kernel", "g2.bw/kernel"):
    below, gates = axes_of[array]
    axes_of[array] = (below[:12] + below[14:], gates)  # 8 spaces of p0, 2 each of g1 and a
fewer = set_size(Layout(axes_of, real["all"].sizes), "g1.fw")
print(f"without the product: {fewer} weights in a group of g1")
assert fewer == as_sets["released"][1] == 3197

# %% [markdown]
# ## What to take away
#
# - A new network needs two things: a layout of its axes, and a list of what reads a unit. If its
#   outputs change when you remove a dead unit, one of the two is wrong.
# - A reader is any slice that multiplies the unit's output: a row of the next kernel, a column of a
#   tied embedding, and also a row that multiplies it after a mean over all words, or after a
#   product.
# - If one reader is missing in the group, removal changes the answers. A test with random biases
#   shows this; a test with zero biases does not.
# - Count the weights of the compact network, not the weights outside of the dead groups.
#
# ## Where to go next
#
# - `python -m issref.train_ptb --preset rhn-small` trains the first network on Penn TreeBank, and
#   `python -m issref.train_squad --small` the second on questions of SQuAD, in minutes.
# - `issref/ops/rhn.py` and `issref/ops/attention.py` contain the backward passes,
#   `issref/models/ptb_rhn.py` and `issref/models/bidaf.py` the layouts and readers.
# - [Tutorial 8](8_porting.py) implements the method in another framework, and checks it there.
# - [Tutorial 4](4_proximal_steps.py) derives the proximal step, which decided here which units die.
