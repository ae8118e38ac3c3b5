# %% [markdown]
# # 8. Attention: a reader that is easily forgotten
#
# In *BiDAF*, the third network of Wen et al. (arXiv 1709.05027, section 4.2), the outputs of one
# layer at all words are averaged, and the average is read at every word. The rows that read this
# average are missing from the groups that were released with the paper. Here we write down the
# layout of the network, list what reads a unit, and see what removing a unit by the released groups
# does to the answers.
#
# **You will learn** how a unit's output travels through attention; to find all of its readers; what
# one forgotten reader does; and how the paper counts the weights that remain.
#
# **You need** [tutorial 7](7_highways.py), which does the same for a network without attention. It
# takes about 45 minutes to read, with the exercise, and seconds to run. Numbers about our own
# networks are computed below, and most are checked by an `assert`. Numbers of the paper are quoted.

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from issref import Layout, alive, compact, group_norms, iss_groups
from issref.models import bidaf
from issref.ops.attention import (
    attention_flow,
    attention_pool,
    context_to_query,
    max_over_question,
    similarity,
)
from issref.report import COLOURS, STYLE
from issref.verify.released import bidaf_variables, write_groups

plt.rcParams.update(STYLE | {"figure.dpi": 110, "savefig.dpi": 160})
FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
# ## The network
#
# BiDAF (Seo et al., 2017) answers a question about a text: it predicts
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
# weighted for the question. Later layers read $p^0_t = [h_t,\, \tilde u_t,\, h_t \tilde u_t,\, h_t
# \tilde h]$, of width $8d$, which is `p0` in the code:
#
# $$g^0 = \mathrm{LSTM}(p^0), \qquad g^1 = \mathrm{LSTM}(g^0), \qquad
#   \mathrm{start}_t = [g^1_t,\, p^0_t]\, w_s + b_s,$$
# $$a = \sum_t \mathrm{softmax}_t(\mathrm{start})\, g^1_t, \qquad
#   g^2 = \mathrm{LSTM}([p^0_t,\; g^1_t,\; a,\; g^1_t a]), \qquad
#   \mathrm{end}_t = [g^2_t,\, p^0_t]\, w_e + b_e.$$
#
# To predict the end it helps to know the start. So $a$ selects the $g^1$ of the first word of the
# answer *softly*, as a mean weighted by the probabilities of the start; `g2` reads it at every
# word.
#
# Here are these means for a tiny text. A word is a one-hot vector, and $w$ gives $s_{tj} = 4$ for
# two equal words and 0 otherwise. Then the entries of each mean are its weights: the entry for a
# word is the weight of that word. We choose the logits of the start, 3 for "dog" and 0 for the
# others. In $a$, $h_t$ takes the place of $g^1_t$.

# %%
WORDS = ["the", "a", "sees", ".", "cat", "dog", "bird"]
V = len(WORDS)
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

p0, _ = attention_flow(h, u, kernel, bias, lengths=lengths, question_lengths=question_lengths)
assert np.array_equal(p0, np.concatenate([h, seen, h * seen, h * focus], axis=-1))

# %% tags=["hide-input"]
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
figure.savefig(FIGURES / "8_attention.png")

# %% [markdown]
# In $\tilde u_t$ for the word "cat", nearly all weight is on "cat". For a word that is not in the
# question, the two words of the question have equal weights. In $\tilde h$ nearly all weight is on
# "cat" and "sees". (In the real network $h_t$ and $u_j$ depend on their neighbours, and $w$ is
# learnt.) Look at the last column. **$a$ is computed from $g^1$ at all words, and is read at all
# words.** The output of a unit at "dog" reaches `g2` at "the". This path is easily forgotten.
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
    if array.endswith("kernel") and array.startswith(("g", "start", "end")):
        print(f"{array:13} {qa.shape(array)!s:8} axes: {qa.spell(array).replace(P0, 'p0')}")
assert qa.shape("g2.fw/kernel") == (8 * 2 + 3 * 4 + 2, 4 * 2)
print("readers:", bidaf.READERS)

# %% [markdown]
# The rows of `g2` contain the units of `g1` three times: as $g^1_t$, as $a$ and as $g^1_t a$. Entry
# $k$ of $a$ is a mean of entry $k$ of $g^1_t$, so it belongs to the same unit, and its rows are in
# the same space. We call the rows of $a$ the *attended rows*. The figure marks unit 1 of `g1.fw` in
# all arrays.

# %% tags=["hide-input"]
UNIT = 1
READ = {
    "gate columns: compute the unit": COLOURS[0],
    "recurrent row: its own layer reads it": COLOURS[4],
    "as $g^1_t$": COLOURS[2],
    "as $a$: the attended row": COLOURS[1],
    "as $g^1_t a$": COLOURS[3],
    "both: the unit reads itself": "#1B1B3A",
}
figure, panels = plt.subplots(1, 4, figsize=(7.8, 4.9), width_ratios=(9, 5, 9, 9))
for axes, name in zip(panels, ("g1.fw", "start", "g2.fw", "g2.bw"), strict=True):
    kinds = np.zeros(qa.shape(f"{name}/kernel"), int)
    found = [place for place in qa.occurrences("g1.fw") if place.array == f"{name}/kernel"]
    places = [place.segment.start + UNIT for place in found if place.axis == 0]
    gates = [place.segment.start + UNIT for place in found if place.axis == 1]
    for kind, place in zip((2,) if gates else (3, 4, 5), places, strict=name != "start"):
        kinds[place] = kind
    kinds[:, gates] = 1
    kinds[np.ix_(places if gates else [], gates)] = 6
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
figure.savefig(FIGURES / "8_readers.png")

# %%
places = [place for place in qa.occurrences("g1.fw") if place.array.endswith("kernel")]
row_count = sum(place.axis == 0 for place in places)
print(f"unit {UNIT} of g1.fw is read by {row_count} rows")
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
# As for the highway network, the authors' code reads its groups from a file. In this file no group
# of `g1` contains the attended rows. (Each of their weights is still in the group of its column, a
# unit of `g2`. Our layout for `groups="released"` writes these rows as `~g1.fw`: removed with the
# unit, but not counted in its group.) We generate the file for the authors' $d = 100$, add up its
# entries, and count the weights as sets.

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


def group_size(layout, space):
    """Count the weights in the group of one component, by the norm of a group of ones."""
    groups = iss_groups(layout, [space])
    ones = {array: np.broadcast_to(1.0, layout.shape(array)) for array in groups.ids}
    return round(group_norms(ones, groups)[0] ** 2)


as_sets = {name: [group_size(layout, space) for space in FIRST] for name, layout in real.items()}
print("groups of g0, g1, g2")
print(f"by the file:     {list(by_file.values())}")
print(f"the same as sets {as_sets['released']}")
print(f"with all readers {as_sets['all']}")
assert list(by_file.values()) == [4800, 3201, 6401]
assert as_sets["released"] == [4796, 3197, 6397]
assert as_sets["all"] == [4796, 3997, 6397]
assert as_sets["all"] == [48 * 100 - 4, 40 * 100 - 3, 64 * 100 - 3]

# %% [markdown]
# 800 weights are missing from each group of `g1`, two rows of 400. They are penalised as parts of
# the gate columns of `g2`, but not together with the unit of `g1`, and they are not checked when
# that unit is declared dead.
#
# ## A removal that changes the answer
#
# Does it matter? The output of a unit whose columns are zero no longer depends on the text, but its
# biases can still make it nonzero, and the attended rows read it. We test the released groups and
# ours on a network with random weights and biases. The texts are 16 pairs of sentences such as "the
# cat sees a dog ."; the question is the beginning of the second sentence. We set the whole *group*
# of every other unit of `g1` to zero, as a proximal step would, find the dead units with `alive`,
# and remove them. We repeat this with the released groups after setting the biases of these units
# to zero.


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


rng = np.random.default_rng(3)
animals = [rng.choice(["cat", "dog", "bird"], 2, replace=False) for _ in range(16 * 2)]
said = " ".join(f"the {one} sees a {other} ." for one, other in animals).split()
text = np.array([WORDS.index(word) for word in said]).reshape(16, 12).T  # (time, batch)
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
        for array, axis, segment in layout.occurrences(space):
            if segment.counted or ("zero" in case and array == f"{space}/bias"):
                network[array].swapaxes(0, axis)[segment.start : segment.stop : 2] = 0
    alive_masks = alive(network, iss_groups(layout, bidaf.LEARNED))
    assert [int(units.sum()) for units in alive_masks.values()] == [6, 6, 3, 3, 6, 6]
    small, _ = compact(network, layout, alive_masks)
    (full, spans), (cut, others) = answer(network), answer(small)
    moved[case], ends[case] = np.abs(full - cut).max(axis=(1, 2)), (full[1, :, 0], cut[1, :, 0])
    changed = int((spans != others).any(axis=0).sum())
    amounts = "start {:7.2g}, end {:7.2g}".format(*moved[case])
    print(f"{case:22}  largest change: {amounts}   changed answers: {changed} of 16")
    assert changed == (6 if case == "released" else 0)
assert f"{moved['released'][1]:.2g}" == "0.46"
assert max(moved["released"][0], *moved["released, biases zero"], *moved["all"]) < 1e-12

# %% tags=["hide-input"]
figure, panels = plt.subplots(1, 2, figsize=(7.5, 2.9), sharey=True)
for axes, case in zip(panels, ("released", "all"), strict=True):
    axes.plot(ends[case][0], "o", color=COLOURS[0], markersize=9, fillstyle="none", label="before")
    axes.plot(ends[case][1], "x", color=COLOURS[1], label="after")
    axes.set_xticks(range(12), [WORDS[word] for word in context.words[:, 0]], rotation=60)
    axes.set_title(f"logits of the end, groups: {case}")
panels[1].legend(frameon=False, title="removal")
figure.savefig(FIGURES / "8_answer.png")

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
# the units that are dead by the released groups are still alive.

# %%
released = {array: values.copy() for array, values in dense.items()}
for array, axis, segment in bidaf.layout(config, "released").occurrences("g1.fw"):
    if segment.counted:
        released[array].swapaxes(0, axis)[segment.start : segment.stop : 2] = 0
for case in ("released", "all"):
    groups = iss_groups(bidaf.layout(config, case), bidaf.LEARNED)
    units = alive(released, groups, bidaf.READERS)["g1.fw"]
    print(f"readers of the groups {case:8}: {int(units.sum())} of 6 alive")
    assert units.sum() == (3 if case == "released" else 6)

# %% [markdown]
# ## How the paper counts weights
#
# The paper reports the remaining units and weights (its tables 3 and 4). A weight is counted if it
# is in no dead group. So a weight in an attended row of a removed unit is counted if the `g2` unit
# of its column remains. We can count in the same way with the layout: give the attended rows a
# space of their own, which does not shrink. Two sizes are not in the paper, the number of
# characters and the number of words with a learnt vector. We choose them so that the dense network
# has 2.686 million weights; this one number is fitted to the table.

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
# With this one number fitted, all eight rows agree with the paper, and in each of them the compact
# model is smaller than the printed size. But it is the same network only if the attended rows of
# the removed units are zero, or their outputs are (zero biases, above). The released groups ensure
# neither, so one has to choose: keep these rows and the units that they read, or accept changed
# answers. With all readers in the groups this problem does not arise.
#
# ## Exercise
#
# 1. How many rows read a unit of `g0`, and how many a unit of `g2`?
# 2. Suppose `g2` did not read the product $g^1_t a$: how many weights would be in a group of `g1`,
#    for $d = 100$? The same number occurs above. Is it the same set?
#
# Try to answer before you read on.
#
# ### Answer
#
# 1. Three rows read a unit of `g0`: its own and one in each direction of `g1`. Two rows read a unit
#    of `g2`: its own and one for the end. (`g2.fw` and `g2.bw` do not read each other.)
# 2. A unit of `g1` has two readers fewer, of $4d$ weights each, so $3997 - 800 = 3197$ weights
#    remain. The released group has the same size but is another set: it contains the product's rows
#    and not the rows of $a$.

# %%
read_by = []
for space in FIRST:
    found = [segment.counted for _, axis, segment in qa.occurrences(space) if axis == 0]
    read_by.append(sum(found))
print(f"rows that read a unit of g0, g1, g2: {read_by}")
assert read_by == [3, 8, 2]

axes_of = dict(real["all"].axes)
for array in ("g2.fw/kernel", "g2.bw/kernel"):
    below, gates = axes_of[array]
    axes_of[array] = (below[:12] + below[14:], gates)  # 8 spaces of p0, 2 each of g1 and a
fewer = group_size(Layout(axes_of, real["all"].sizes), "g1.fw")
print(f"without the product: {fewer} weights in a group of g1")
assert fewer == as_sets["released"][1] == 3197

# %% [markdown]
# ## What to take away
#
# - A slice that multiplies a unit's output after a mean over all words, or after a product, reads
#   the unit, too.
# - If one reader is missing in the group, removal can change the answers. A test with random biases
#   shows this; a test with zero biases does not.
# - Count the weights of the compact network, not the weights outside of the dead groups.
#
# ## Where to go next
#
# - [Tutorial 9](9_choosing_a_strength.py) chooses the strength of the penalty.
# - `python -m issref.train_squad --small` trains this network on questions of SQuAD, in minutes.
# - `issref/ops/attention.py` contains the backward passes, `issref/models/bidaf.py` the layout and
#   the readers.
