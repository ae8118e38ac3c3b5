# %% [markdown]
# # 6. Compaction changes no output
#
# Training with the proximal step makes all weights of some units zero. To *compact* the network
# means to remove these units. The result is an ordinary LSTM with smaller arrays. Two claims are
# tested here. First, the outputs do not change. Second, cutting a dead unit during training has the
# same effect as keeping it and setting its biases, state and momentum to zero. If these are not set
# to zero, the unit can come back, and the two trainings differ.
#
# **You will learn** which condition allows a unit to be removed without loss, and which conditions
# only look sufficient; which arrays have to be cut besides the weights; how to restore the original
# shapes; why units can be removed *during* training, and why the result is the same as with zeros
# kept; and how much faster the network becomes.
#
# **You need** tutorials [1](1_one_unit.py) and [4](4_proximal_steps.py), and backpropagation. It
# takes about 60 minutes to read, with the exercise, and seconds to run. Numbers about our own
# networks are computed below, and most are checked by an `assert`. Numbers of the paper are quoted.

# %%
import time
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from issref import alive, compact, expand, iss_groups, prox, zero_dead
from issref.models import ptb_lstm
from issref.report import COLOURS, STYLE
from issref.training.optimizers import clip_scale, global_norm

plt.rcParams.update(STYLE | {"figure.dpi": 110, "savefig.dpi": 160})
FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
# ## What has to be zero
#
# The network of tutorial 1: 7 words, an embedding of 3, two layers of 4 units, random weights and
# biases. We look at unit 2 of the lower layer again. Four gate *columns* compute it. Two rows read
# it, its *readers*: the *recurrent row* of its own layer, and the *row above* in the kernel of the
# upper layer. And it has four biases.
#
# Suppose training has made some of these zero, and we remove the unit. When does the network still
# compute the same? We try seven cases. In each case we first set some slices to zero, and then
# compare the logits before and after the removal, once starting from a zero state and once from a
# random state. We also call `alive` in both ways: for the whole group, and for the readers.

# %%
config = ptb_lstm.Config(vocabulary=7, embed_size=3, hidden_sizes=(4, 4), keep=0.7)
layout = ptb_lstm.layout(config)
groups = iss_groups(layout, ["lstm0", "lstm1"])
rng = np.random.default_rng(0)
params = {array: rng.normal(0, 0.8, layout.shape(array)) for array in layout.axes}

STEPS, BATCH, UNIT = 12, 5, 2
tokens = rng.integers(0, config.vocabulary, (STEPS, BATCH))
states = ptb_lstm.state_layout(layout, BATCH)
random_state = {array: rng.normal(0, 0.5, states.shape(array)) for array in states.axes}
zero_state = states.allocate()
others = {"lstm0": np.arange(4) != UNIT}

COLUMNS = ("lstm0/kernel", (slice(None), [UNIT, 4 + UNIT, 8 + UNIT, 12 + UNIT]))
RECURRENT = ("lstm0/kernel", 3 + UNIT)
ABOVE = ("lstm1/kernel", UNIT)
NOT_SELF = ("lstm0/kernel", (3 + UNIT, [place for place in range(16) if place % 4 != UNIT]))
BIASES = ("lstm0/bias", [UNIT, 4 + UNIT, 8 + UNIT, 12 + UNIT])
CASES = {
    "both rows": [RECURRENT, ABOVE],
    "rows and columns": [RECURRENT, ABOVE, COLUMNS],
    "rows, not self weights": [NOT_SELF, ABOVE],
    "recurrent row": [RECURRENT],
    "row above": [ABOVE],
    "columns": [COLUMNS],
    "columns and biases": [COLUMNS, BIASES],
}


def logits(params, state, masks=None):
    (y, _), _ = ptb_lstm.logits(params, state, tokens=tokens, masks=masks)
    return y


def change(params, state):
    """Return the largest change of a logit when the unit is removed from weights and state."""
    small, _ = compact(params, layout, others)
    small_state, _ = compact(state, states, others)
    return np.abs(logits(params, state) - logits(small, small_state)).max()


print("zero                  alive by group, by readers   change: zero state, random state")
results = {}
for name, slices in CASES.items():
    network = {array: values.copy() for array, values in params.items()}
    for array, index in slices:
        network[array][index] = 0
    by_group = bool(alive(network, groups)["lstm0"][UNIT])
    by_readers = bool(alive(network, groups, ptb_lstm.READERS)["lstm0"][UNIT])
    changes = [change(network, state) for state in (zero_state, random_state)]
    results[name] = by_group, by_readers, *changes
    answers = f"{by_group!s:>13}  {by_readers!s:>10}"
    print(f"{name:22} {answers} {changes[0]:>20.0e}  {changes[1]:>10.0e}")
LOSSLESS = 1e-13
lossless = [name for name, result in results.items() if max(result[2:]) < LOSSLESS]
assert lossless == ["both rows", "rows and columns", "rows, not self weights"]
assert all(min(results[name][2:]) > 0.01 for name in ("recurrent row", "row above", "columns"))
assert results["columns and biases"][2] < LOSSLESS < 0.01 < results["columns and biases"][3]
dead = [name for name, (_, by_readers, *_) in results.items() if not by_readers]
assert dead == ["both rows", "rows and columns"]
assert [name for name, (by_group, *_) in results.items() if not by_group] == ["rows and columns"]

# %% tags=["hide-input"]
figure, axes = plt.subplots(figsize=(7.5, 3.2))
places = np.arange(len(CASES))
for number, label in enumerate(("zero state", "random state")):
    found = [max(result[2 + number], 1e-17) for result in results.values()]
    axes.plot(found, places + 0.12 * (2 * number - 1), "o", color=COLOURS[number], label=label)
axes.axvline(LOSSLESS, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)))
axes.text(2e-13, -0.2, "\N{LEFTWARDS ARROW} rounding", va="center", color="#555555")
axes.set_yticks(places, [f"zero: {name}" for name in CASES])
axes.invert_yaxis()
axes.set(xscale="log", xlim=(5e-18, 5))
axes.set_title("Largest change of a logit when the unit is removed (0 drawn at 1e-17)")
axes.legend(frameon=False, loc="center", title="starting from a")
figure.savefig(FIGURES / "6_conditions.png")

# %% [markdown]
# **If everything that reads the unit is zero, it can be removed.** This is sufficient for any
# state, any input and any biases: with both rows zero the unit's nonzero biases make its output
# nonzero, but nothing reads it. One row is not enough, because the other one still reads the unit.
# Zero columns are not enough because of the biases. The last case is the most deceptive. With
# columns and biases zero, from a zero state, the unit's output is always exactly 0, so its removal
# is lossless. But if the same network starts from another state, the unit's old cell decays over
# several steps and changes the outputs. A test that starts from zero states, with the zero biases
# of a new network, classifies all cases with zero columns as lossless.
#
# The condition is not necessary. A unit that is read only by itself (the third case), or that is
# read only by units which nothing reads (the exercise), could go too; `alive` does not look for
# these.
#
# So there are two tests. `alive(params, groups, readers)` calls a unit dead if all weights that
# read it are zero, which is enough to remove it. `alive(params, groups)` calls it dead only if its
# whole group is zero. In training we use the second, because the proximal step reports it and
# because a unit with zero readers but nonzero columns still has an output, so its readers have
# gradients, and it could come back. For a finished network use the first; it may find more units.
#
# The layout lists the places of a unit, but not where its output is used. So each model names its
# readers: here rows, in other networks sometimes columns (tutorials 7 and 10).

# %%
print("readers:", ptb_lstm.READERS)
assert ptb_lstm.READERS == (("lstm*/kernel", 0), ("softmax/kernel", 0))

# %% [markdown]
# ## Why the change can differ from zero
#
# A unit that nothing reads adds products with zero to each sum, and these are exact. Yet in a
# larger network the change may differ from 0 in the last bits: matrix products are summed in
# blocks, and the block boundaries depend on the size, so the *same* numbers are added in another
# order. In any order, the sum of $n$ products $x_i w_i$ differs from the exact one by at most about
# $\frac{n}{2} \varepsilon \sum_i |x_i w_i|$, where $\varepsilon$ is the spacing of numbers at 1;
# two orders differ by twice as much at most. We take two layers of 300 units, in which nothing
# reads the odd units. Here 150 of the 300 products are exactly zero, so $n = 150$. We check this
# bound for a product with the kernel of the softmax, and print the change of the logits.

# %%
wide = ptb_lstm.layout(ptb_lstm.Config(vocabulary=7, embed_size=300, hidden_sizes=(300, 300)))
even = {space: np.arange(300) % 2 == 0 for space in ("lstm0", "lstm1")}
wide_params = {array: rng.normal(0, 0.2, wide.shape(array)) for array in wide.axes}
for array, first in (("lstm0/kernel", 300), ("lstm1/kernel", 0), ("softmax/kernel", 0)):
    wide_params[array][first + 1 :: 2] = 0
outputs_of_units = rng.uniform(-1, 1, (60, 300))
for dtype in (np.float64, np.float32):
    network = {array: values.astype(dtype) for array, values in wide_params.items()}
    narrow, _ = compact(network, wide, even)
    ways = [logits(one, ptb_lstm.zero_state(one, BATCH)) for one in (network, narrow)]
    epsilon = np.finfo(dtype).eps
    in_units = np.abs(ways[0] - ways[1]).max() / epsilon
    print(f"{dtype.__name__}: the largest change of a logit is {in_units:.2g} epsilon")

    x, W = outputs_of_units.astype(dtype), network["softmax/kernel"]
    apart = np.abs(x @ W - x[:, ::2] @ W[::2])
    bound = 152 * epsilon * (np.abs(x) @ np.abs(W))  # 2 more: it is rounded, too
    assert np.all(apart <= bound)

# %% [markdown]
# The change is at most a few $\varepsilon$ in either precision; on some machines it is exactly 0.
# So it is rounding.

# %% [markdown]
# ## State and dropout masks
#
# Weights and biases are not the only arrays that have an entry for each unit. The **carried state**
# has one, and so have the **dropout masks**. (*Dropout* switches units off at random in training:
# the output of a unit is multiplied by its entry of a mask, here 1 / 0.7 with probability 0.7, and
# 0 otherwise.) Both have a layout, so `compact` cuts them, too. Forgetting the state is harmless,
# since the shapes do not fit. The mask is a trap, because a program usually *draws* it at the
# current size of the network.
#
# Draw a mask for the original network, and another one at the smaller size from the same random
# numbers. The second mask assigns the numbers to other units, so units are dropped at other times
# than in the original network. Only masks that are drawn at the original width and then cut give
# the same results.

# %%
ONE = {"steps": STEPS, "batch": BATCH}
masks = ptb_lstm.draw_masks(config, layout.sizes, np.random.default_rng(3), **ONE)
unread = {array: values.copy() for array, values in params.items()}
for array, index in (RECURRENT, ABOVE):
    unread[array][index] = 0
small, small_layout = compact(unread, layout, others)
small_state, _ = compact(random_state, states, others)
cut_masks, _ = compact(masks, ptb_lstm.mask_layout(layout, masks), others)
drawn_masks = ptb_lstm.draw_masks(config, small_layout.sizes, np.random.default_rng(3), **ONE)

whole = logits(unread, random_state, masks)
with_cut = np.abs(whole - logits(small, small_state, cut_masks)).max()
with_drawn = np.abs(whole - logits(small, small_state, drawn_masks)).max()
print(f"masks cut: a logit changes by {with_cut:.0e}; drawn at the smaller size: {with_drawn:.2f}")
assert with_cut < LOSSLESS
assert with_drawn > 0.1

# %% [markdown]
# ## Restoring the original shapes
#
# `expand` is the inverse of `compact`: it inserts zeros for the removed units. `compact` followed
# by `expand` loses only the removed weights; `expand` followed by `compact` loses nothing, to the
# last bit. Two removals in a row give the same result as one removal of all units.

# %%
large, large_layout = expand(small, small_layout, others)
zeroed = zero_dead(unread, layout, others)  # the unit's slices, including biases, set to zero
there_again, _ = compact(large, large_layout, others)
assert large_layout == layout
assert all(np.array_equal(large[array], zeroed[array]) for array in layout.axes)
assert all(np.array_equal(there_again[array], small[array]) for array in layout.axes)

two, two_layout = compact(unread, layout, {"lstm1": np.array([True, False, True, True])})
two, two_layout = compact(two, two_layout, others)
one, one_layout = compact(unread, layout, {**others, "lstm1": np.array([True, False, True, True])})
assert two_layout == one_layout
assert all(np.array_equal(two[array], one[array]) for array in layout.axes)
print(f"parameters {layout.parameters()} -> {small_layout.parameters()} -> ", end="")
print(f"{large_layout.parameters()}")
assert layout.parameters() == large_layout.parameters() == 328
assert small_layout.parameters() == 268

# %% [markdown]
# So a compact network can be saved together with one boolean for each unit of the original network,
# and restored to the original shapes for a program that expects them.
#
# ## During training
#
# Units die one by one, the first of them early, and it is wasteful to compute with their zeros
# until the end. Can a unit be removed during training, at the step at which it dies? The outputs
# stay the same, as we know. But could the unit have become nonzero again?
#
# Let unit $k$ of an LSTM have a group of zeros, and set its biases and its carried state to zero as
# well. (Otherwise its output is nonzero, the weights that read it have gradients, and the unit may
# come back.) Then, in the uncut network:
#
# 1. *Its output is zero.* Its preactivations are 0, its candidate is $g = \tanh(0) = 0$, so its
#    cell stays $f \cdot 0 + i \cdot 0 = 0$, and its output is $o\, \tanh(0) = 0$.
# 2. *The gradients of its readers are zero.* The gradient of a weight that reads the unit is a sum
#    of terms that contain the unit's output as a factor.
# 3. *Its own gradients are zero.* The gradient of its output is a sum of terms with the weights of
#    its readers as factors, and these are 0. So $\mathrm{d}h$, $\mathrm{d}c$ and the gradients of
#    the four preactivations are 0, and hence the gradients of its columns and biases.
#
# **Every gradient of the unit is exactly zero.** A plain gradient step does not change it, it adds
# nothing to the norm by which gradients are clipped, and the proximal step maps 0 to 0. The same
# holds at every later step. (With momentum the unit's velocity must be set to zero, too, or the old
# velocity moves it.) The unit stays zero, and it does not influence the other units. Setting the
# biases to zero is our decision: they are in no group, and training alone would not make them zero.

# %%
zeroed_state = zero_dead(random_state, states, others)
(_, _), backward = ptb_lstm.loss(
    zeroed, zeroed_state, tokens=tokens, targets=np.roll(tokens, -1, axis=0), masks=masks
)
grads, _ = backward(1.0)
rest = zero_dead(grads, layout, others)
on_unit = sum(np.abs(grads[array] - rest[array]).sum() for array in grads)
print(f"sum of all gradients of the dead unit: {on_unit}")
assert on_unit == 0

# %% [markdown]
# ### A training loop that removes units
#
# Now a whole training run. The text consists of sentences like "return the first item of the list
# .", in which the last noun follows from the one before it. The run contains everything that could
# go wrong: dropout; state carried from window to window; *clipping*, which scales a gradient down
# to a given length if it is longer; *momentum*, which steps along a sum of all previous gradients,
# with smaller weights for older ones; and a proximal step with a warm start (tutorial 5). For the
# first 60 steps the strength is 0, so that the network learns something; then 120 steps with the
# penalty follow.
#
# Every array that has an entry for each unit has to be cut: the parameters, the momentum
# (`velocity` in the code), the carried state. A `run` holds them, and `layouts_of` gives their
# layouts.
#
# `prox` computes the exact result up to a small error, and returns a *certificate*, which bounds
# this error. Its duality gap is the objective of the returned weights minus a proven lower bound of
# the minimum. The weights are within $\sqrt{2\,\text{gap}}$ of the exact ones (tutorial 4), and a
# group that is shorter than that is set to zero. `certificate.dead` says which groups are zero, and
# `groups.split(~certificate.dead)` gives one mask of living units for each space.
# `certificate.warm_start` is a table with one row and column for each group and one more for "no
# group", from which the next step starts faster; tutorial 5 explains it. Here it is one more array
# that must be cut.

# %%
VERBS, WHICH = ["return", "remove", "copy", "print"], ["first", "last"]
PLACES = {"item": "list", "key": "dict", "member": "set"}
WORDS = [*VERBS, "the", *WHICH, *PLACES, "of", *PLACES.values(), "."]
draw = np.random.default_rng(2)
said = []
for _ in range(16 * 120):
    verb, which, noun = (draw.choice(x) for x in (VERBS, WHICH, list(PLACES)))
    said += f"{verb} the {which} {noun} of the {PLACES[noun]} .".split()
text = np.array([WORDS.index(word) for word in said]).reshape(16, -1).T  # (time, batch)
print(" ".join(said[:16]))

TOY = ptb_lstm.Config(len(WORDS), embed_size=8, hidden_sizes=(24, 24), init_scale=0.3, keep=0.9)
SPACES, WINDOW, RATE, MOMENTUM, CLIP, STRENGTH = ["lstm0", "lstm1"], 16, 0.3, 0.8, 2.0, 0.2


def layouts_of(now):
    return {"params": now, "velocity": now, "state": ptb_lstm.state_layout(now, 16)}


def cut_out(run, now, units):
    """Remove the dead units from every array of the run; return the smaller layout."""
    for name, its_layout in layouts_of(now).items():
        run[name], _ = compact(run[name], its_layout, units)
    return now.resized({space: int(units[space].sum()) for space in SPACES})


def draw_masks(rng, units):
    """Draw dropout masks for the original network, and cut them."""
    full = ptb_lstm.layout(TOY)
    masks = ptb_lstm.draw_masks(TOY, full.sizes, rng, steps=WINDOW, batch=16)
    return compact(masks, ptb_lstm.mask_layout(full, masks), units)[0]


def train(remove, masks_of=draw_masks):
    """Return loss, units alive in each layer and multiply-adds of each step."""
    rng, now, shares, curve = np.random.default_rng(1), ptb_lstm.layout(TOY), None, []
    run = {name: its_layout.allocate() for name, its_layout in layouts_of(now).items()}
    run["params"] = ptb_lstm.init_params(TOY, now, np.random.default_rng(0))
    left = {space: np.ones(24, bool) for space in SPACES}  # the units that are in the arrays
    for step in range(180):
        place = step * WINDOW % (len(text) - WINDOW)
        words, aims = text[place : place + WINDOW], text[place + 1 : place + WINDOW + 1]
        window = {"tokens": words, "targets": aims, "masks": masks_of(rng, left)}
        (loss, run["state"]), backward = ptb_lstm.loss(run["params"], run["state"], **window)
        grads, _ = backward(1.0)

        scale = RATE * clip_scale(global_norm(grads), CLIP)
        for array in grads:
            run["velocity"][array] = MOMENTUM * run["velocity"][array] - scale * grads[array]
        moved = {array: run["params"][array] + run["velocity"][array] for array in grads}
        groups = iss_groups(now, SPACES)
        strength = RATE * STRENGTH if step >= 60 else 0.0
        run["params"], certificate = prox(moved, groups, strength, warm_start=shares)

        units, shares = groups.split(~certificate.dead), certificate.warm_start
        if certificate.dead.any():
            smaller = remove(run, now, units)
            if smaller is not now:  # the masks and the shares are cut, too
                for space in SPACES:
                    left[space][left[space]] = units[space]
                still = np.append(~certificate.dead, True)  # the last row and column: "no group"
                now, shares = smaller, shares[np.ix_(still, still)]
        counts = [int(alive_here.sum()) for alive_here in units.values()]
        curve.append((loss / WINDOW, *counts, ptb_lstm.multiply_adds(now)))
    return np.array(curve)


small_run = train(cut_out)
ends = [int(width) for width in small_run[-1, 1:3]]
print(f"units alive at the end: {ends[0]} + {ends[1]} of 24 + 24")
print(f"loss of a word: {small_run[0, 0]:.2f} nats at first, {small_run[-1, 0]:.2f} at the end")
assert sum(ends) < 40

# %% [markdown]
# ### The same training with zeros
#
# Now the same run with the dead units kept, and all their arrays set to zero. (Losses are in
# *nats*, the unit of natural logarithms.)


# %%
def zero_out(run, now, units, forget=None):
    """Set the dead units to zero in every array of the run; the layout stays the same."""
    for name, its_layout in layouts_of(now).items():
        if name != forget:
            run[name] = zero_dead(run[name], its_layout, units)
    return now


large_run = train(zero_out)
apart = np.abs(small_run[:, :3] - large_run[:, :3])
print(f"losses of the two runs: at most {apart[:, 0].max():.0e} nats apart, in any of 180 steps")
print(f"units alive: at most {apart[:, 1:].max():.0f} apart")
assert apart[:, 0].max() < 1e-9
assert apart[:, 1:].max() == 0

# %% [markdown]
# Both runs agree. The small differences come from the order of summation, and grow slowly, as
# rounding errors do in any training.
#
# ### What happens if something is forgotten
#
# Now we leave out one thing at a time. Three runs keep the zeros, but do not set a dead unit's
# biases, its carried state, or its momentum (the velocity of its weights when they became zero) to
# zero. (`forget="params"` skips the biases; the proximal step has already set the other parameters
# to zero.) A fourth run removes the units, but draws dropout masks at the current size of the
# network.


# %%
def draw_small_masks(rng, units):
    sizes = {"embed": TOY.embed_size, **{space: int(units[space].sum()) for space in SPACES}}
    return ptb_lstm.draw_masks(TOY, sizes, rng, steps=WINDOW, batch=16)


careless = {
    "biases": train(partial(zero_out, forget="params")),
    "state": train(partial(zero_out, forget="state")),
    "momentum": train(partial(zero_out, forget="velocity")),
    "masks": train(cut_out, draw_small_masks),
}
gaps = {"nothing (rounding only)": apart[:, 0]}
for forget, run in careless.items():
    gaps[forget] = np.abs(run[:, 0] - small_run[:, 0])
    came_back = int(np.maximum(np.diff(run[:, 1:3], axis=0), 0).sum())
    print(f"forgotten: {forget:9} losses up to {gaps[forget].max():.0e} apart, ", end="")
    print(f"a dead unit returns {came_back} times")
assert all(gaps[forget].max() > 1e-7 for forget in ("biases", "state", "masks"))
assert gaps["momentum"].max() < 1e-7

# %% tags=["hide-input"]
figure, panels = plt.subplots(3, 1, figsize=(7.5, 5.4), sharex=True, height_ratios=(3, 2, 3))
along = np.arange(1, 181)
panels[0].plot(along, large_run[:, 0], color="#BBBBBB", linewidth=4, label="zeros kept")
panels[0].plot(along, small_run[:, 0], color=COLOURS[0], linewidth=1.1, label="units cut")
panels[0].set_title("loss of a word in nats: both runs have the same curve")
panels[0].legend(frameon=False)
for number, colour in ((1, COLOURS[0]), (2, COLOURS[1])):
    name = ("lower layer", "upper layer")[number - 1]
    panels[1].plot(along, large_run[:, number], color="#DDDDDD", linewidth=5)
    look = {"color": colour, "linewidth": 3.5 - number, "label": name}
    panels[1].step(along, small_run[:, number], where="post", **look)
panels[1].set(title="units alive", ylim=(0, 26))
panels[1].legend(frameon=False, loc="lower left")
for (name, gap), colour in zip(gaps.items(), COLOURS, strict=False):
    panels[2].plot(along, np.where(gap > 0, gap, np.nan), ".", color=colour, label=name)
panels[2].set(yscale="log", xlabel="step", xlim=(0, 181), ylim=(1e-17, 10))
panels[2].set_title("difference from the run with units cut (exact agreement is not drawn)")
panels[2].legend(title="forgotten", frameon=False, loc="upper left", fontsize=8)
figure.savefig(FIGURES / "6_training.png")

# %% [markdown]
# Forgotten biases and masks change the losses most. Only forgotten biases bring dead units back:
# the unit's output is nonzero, so its readers have gradients, and it becomes nonzero again several
# times. (These gradients also enter the clipped norm, which changes all other updates.) Masks of
# another size give another random experiment, no worse and no better, but not the same one. The
# carried state decays within a few steps, but the trajectories have then already parted, and in
# this run the losses do not agree again. Momentum matters least: the weights do move, but by less
# than the proximal step subtracts, so it sets them to zero again each time. This depends on the
# run; a unit that dies with a large velocity would become nonzero again.
#
# ## Speed
#
# The matrix products of a step are proportional to the network's *multiply-adds*. In our run they
# decrease whenever a unit dies, so the whole training costs less than the same training with zeros
# kept.

# %%
saved = 1 - small_run[:, 3].sum() / large_run[:, 3].sum()
last = small_run[-1, 3] / large_run[-1, 3]
print(f"multiply-adds of the last step: {last:.0%} of the full network's")
print(f"saved over the whole training: {saved:.0%}")
assert last < 0.6
assert saved > 0.1

# %% [markdown]
# And the measured time? We time one training step, forward and backward, for networks with layers
# of 512 units down to 32, with 1000 words and windows of 20 words by 20 sentences. Then we set nine
# out of ten weights of the largest one to zero, at random places. Times depend on the machine and
# on what else it does, so no `assert` checks them.


# %%
def seconds(params, width, repeats=4):
    """Return the shortest time of a loss and its gradient, to exclude other programs' load."""
    ids = np.random.default_rng(0).integers(0, 1000, (21, 20))
    state, times = ptb_lstm.zero_state(params, 20), []
    for _ in range(repeats):
        start = time.perf_counter()
        _, backward = ptb_lstm.loss(params, state, tokens=ids[:-1], targets=ids[1:])
        backward(np.float32(1))
        times.append(time.perf_counter() - start)
    return min(times)


timed = {}
for width in (32, 64, 128, 256, 512):
    sized = ptb_lstm.Config(vocabulary=1000, embed_size=64, hidden_sizes=(width, width))
    its_layout = ptb_lstm.layout(sized)
    weights = ptb_lstm.init_params(sized, its_layout, np.random.default_rng(0), np.float32)
    timed[width] = ptb_lstm.multiply_adds(its_layout), seconds(weights, width)
    work, clock = timed[width]
    print(f"2 x {width:3}: {work:9,} multiply-adds a word, {clock:.4f} s a step")

holes = {
    array: values * (np.random.default_rng(1).random(values.shape) < 0.1).astype(np.float32)
    for array, values in weights.items()
}
scattered = seconds(holes, 512)
ratio = [timed[512][part] / timed[64][part] for part in (0, 1)]
print(f"512 to 64 units: multiply-adds {ratio[0]:.1f} times fewer, time {ratio[1]:.1f} times less")
print(f"2 x 512 with 90% scattered zeros: {scattered:.4f} s, with none {timed[512][1]:.4f} s")
assert f"{ratio[0]:.1f}" == "29.2"
hole_groups = iss_groups(its_layout, ["lstm0", "lstm1"])
found = alive(holes, hole_groups, ptb_lstm.READERS)
removable = sum(int((~units).sum()) for units in found.values())
print(f"units that can be removed with 90% scattered zeros: {removable}")
assert removable == 0

# %% tags=["hide-input"]
figure, axes = plt.subplots(figsize=(7.5, 3.2))
work, times = np.array(list(timed.values())).T
axes.plot(work, times[-1] * work / work[-1], color="#999999", linewidth=1, label="proportional")
axes.plot(work, times, "o-", color=COLOURS[0], label="units cut out")
square = {"markersize": 9, "fillstyle": "none", "label": "90% of weights zero, scattered"}
axes.plot(work[-1], scattered, "s", color=COLOURS[1], **square)
for width, (x, y) in timed.items():
    axes.annotate(f"2 x {width}", (x, y), (-6, 4), textcoords="offset points", ha="right")
axes.set(xscale="log", yscale="log", xlabel="multiply-adds a word", ylabel="seconds for a step")
axes.set(title="Time of one training step, forward and backward", xlim=(2e4, 1e7))
axes.set_ylim(top=2 * max(times[-1], scattered))
axes.legend(frameon=False, loc="lower right")
figure.savefig(FIGURES / "6_speed.png")

# %% [markdown]
# Large matrices take time roughly proportional to their multiply-adds. Small ones have fixed costs,
# so at small widths the time decreases by much less. With the paper's widths it can decrease by
# more: the paper reports a speed-up of 10.6 for 7.5 times less work, because matrices that fit in
# the cache are faster. At width 512, the only width tried, scattered zeros save nothing.
#
# ## Exercise
#
# Only one weight reads unit $k$ of the lower layer: the weight to the output gate of unit $j$ of
# the upper layer. Nothing reads unit $j$.
#
# 1. Which of the two units is dead according to `alive(params, groups, readers)`?
# 2. Can both be removed at once without loss?
# 3. How do you find all units that can be removed?
#
# Try to answer before you read on.
#
# ### Answer
#
# 1. Only $j$. The weight from $k$ to $j$ reads $k$ and is not zero; `alive` does not check whether
#    the result is used.
# 2. Yes: only $j$ reads $k$, and nothing reads $j$.
# 3. Compact and call `alive` again, until no unit is dead: the removal of unit $j$ removes its
#    columns, and with them the only weight that reads $k$. After proximal steps this is not
#    necessary, because they make whole groups zero, including the columns.

# %%
J, K = 1, 3
chain = {array: values.copy() for array, values in params.items()}
chain["lstm0/kernel"][3 + K] = 0
chain["lstm1/kernel"][K] = 0
chain["lstm1/kernel"][K, 12 + J] = 0.9  # the last block of columns is the output gate
chain["lstm1/kernel"][4 + J] = 0
chain["softmax/kernel"][J] = 0

now, now_layout, now_state, rounds = chain, layout, random_state, []
while True:
    found = alive(now, iss_groups(now_layout, ["lstm0", "lstm1"]), ptb_lstm.READERS)
    rounds.append([int((~found[space]).sum()) for space in ("lstm0", "lstm1")])
    if all(units.all() for units in found.values()):
        break
    now_state, _ = compact(now_state, ptb_lstm.state_layout(now_layout, BATCH), found)
    now, now_layout = compact(now, now_layout, found)
print("dead in the lower and upper layer, round by round:", rounds)
left = np.abs(logits(chain, random_state) - logits(now, now_state)).max()
widths = [now_layout.sizes[space] for space in ("lstm0", "lstm1")]
print(f"layers of {widths[0]} and {widths[1]} units remain, a logit has changed by {left:.0e}")
assert rounds == [[0, 1], [1, 0], [0, 0]]
assert widths == [3, 3]
assert left < LOSSLESS

# %% [markdown]
# ## What to take away
#
# - A unit can be removed without loss if everything that *reads* it is zero (sufficient, but not
#   necessary). One zero row is not enough, and neither are zero columns.
# - State, masks, momentum and warm start have to be cut as well; their layouts make this one call
#   each.
# - `expand` is the inverse of `compact`; it inserts zeros.
# - A dead unit whose biases and state are zero has gradients of exactly zero. So it can be removed
#   at the step at which it dies, and training gives the same results as with all its arrays zero.
# - For large matrices, time is roughly proportional to the remaining multiply-adds. Scattered zeros
#   save nothing.
#
# ## Where to go next
#
# - [Tutorial 7](7_highways.py) applies the same functions to another network.
# - `issref/iss/compact.py` implements compaction, and `issref/training/pruning.py` uses it in
#   training.
