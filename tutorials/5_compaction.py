# %% [markdown]
# # 5. Compaction changes nothing
#
# Training with the proximal step leaves units whose weights are all zero. To *compact* the network
# is to take them out: what remains is an ordinary LSTM with smaller arrays. The claim is that
# nothing else changes, neither what the network computes nor what it learns from then on. Here we
# take the claim apart.
#
# **You will learn** which condition a unit must meet to be cut without loss, and which conditions
# only look sufficient; what has to be cut along with the weights; how to go back; why units can be
# cut out *while* training, with the same trajectory; and how much faster the network gets.
#
# **You need** [tutorial 1](1_one_unit.py), and from [tutorial 4](4_proximal_steps.py) that the
# proximal step makes exact zeros. It takes 15 minutes to read and less than a minute to run. Every
# number in the text is computed below, and an `assert` next to it checks it.

# %%
import time
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
# biases. We look at unit 2 of the lower layer again. Its weights are of three kinds: four gate
# *columns*, which compute it; the *recurrent row*, with which its own layer reads it; and the
# *reader row*, with which the upper layer does. And it has four biases.
#
# Suppose training has made some of these zero, and we cut the unit. When does the network still
# compute the same? We try six cases. In each we set something to zero, *first*, and then compare
# the logits before and after the cut, once starting from a zero state and once from a random one.
# Beside that we ask `alive`, in its two ways: by the whole group, and by the readers.

# %%
config = ptb_lstm.Config(vocabulary=7, embed_size=3, hidden_sizes=(4, 4), keep=0.7)
layout = ptb_lstm.layout(config)
groups = iss_groups(layout, ["lstm0", "lstm1"])
rng = np.random.default_rng(0)
params = {array: rng.normal(0, 0.8, layout.shape(array)) for array in layout.axes}

STEPS, BATCH, UNIT = 12, 5, 2
tokens = rng.integers(0, config.vocabulary, (STEPS, BATCH))
states = ptb_lstm.state_layout(layout, BATCH)
live_state = {array: rng.normal(0, 0.5, states.shape(array)) for array in states.axes}
zero_state = states.allocate()
kept = {"lstm0": np.arange(4) != UNIT}

COLUMNS = ("lstm0/kernel", (slice(None), [UNIT, 4 + UNIT, 8 + UNIT, 12 + UNIT]))
RECURRENT = ("lstm0/kernel", 3 + UNIT)
READER = ("lstm1/kernel", UNIT)
BIASES = ("lstm0/bias", [UNIT, 4 + UNIT, 8 + UNIT, 12 + UNIT])
CASES = {
    "both rows": [RECURRENT, READER],
    "rows and columns": [RECURRENT, READER, COLUMNS],
    "recurrent row": [RECURRENT],
    "reader row": [READER],
    "columns": [COLUMNS],
    "columns and biases": [COLUMNS, BIASES],
}


def logits(params, state, masks=None):
    (y, _), _ = ptb_lstm.logits(params, state, tokens=tokens, masks=masks)
    return y


def change(params, state):
    """The largest change of a logit when the unit is cut out of weights and state."""
    small, _ = compact(params, layout, kept)
    small_state, _ = compact(state, states, kept)
    return np.abs(logits(params, state) - logits(small, small_state)).max()


print("zero                  alive by group, by readers   change: zero state, live state")
results = {}
for name, slices in CASES.items():
    network = {array: values.copy() for array, values in params.items()}
    for array, index in slices:
        network[array][index] = 0
    by_group = bool(alive(network, groups)["lstm0"][UNIT])
    by_readers = bool(alive(network, groups, ptb_lstm.readers)["lstm0"][UNIT])
    changes = [change(network, state) for state in (zero_state, live_state)]
    results[name] = by_group, by_readers, *changes
    answers = f"{by_group!s:>13}  {by_readers!s:>10}"
    print(f"{name:22} {answers} {changes[0]:>20.0e}  {changes[1]:>10.0e}")
LOSSLESS = 1e-13
assert all(result[2] > 0.01 for name, result in results.items() if result[1] and "bias" not in name)
assert [name for name, result in results.items() if max(result[2:]) < LOSSLESS] == [
    "both rows",
    "rows and columns",
]
assert [name for name, (_, by_readers, *_) in results.items() if not by_readers] == [
    "both rows",
    "rows and columns",
]
assert [name for name, (by_group, *_) in results.items() if not by_group] == ["rows and columns"]

# %%
figure, axes = plt.subplots(figsize=(7.5, 2.9))
places = np.arange(len(CASES))
for number, (label, colour) in enumerate((("zero state", COLOURS[0]), ("live state", COLOURS[1]))):
    found = [max(result[2 + number], 1e-17) for result in results.values()]
    axes.plot(found, places + 0.12 * (2 * number - 1), "o", color=colour, label=label)
axes.axvline(LOSSLESS, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)))
axes.text(2e-13, -0.2, "rounding to the left", va="center", color="#555555")
axes.set_yticks(places, [f"zero: {name}" for name in CASES])
axes.invert_yaxis()
axes.set(xscale="log", xlim=(5e-18, 5))
axes.set_title("Largest change of a logit when the unit is cut (0 drawn at 1e-17)")
axes.legend(frameon=False, loc="center", title="starting from a")
figure.savefig(FIGURES / "5_conditions.png")

# %% [markdown]
# **Everything that reads the unit must be zero, and that is all.** With both rows zero the unit may
# say what it likes, and its live biases see to it that it says something; nobody hears it. One row
# is not enough, because the other one still listens. Zero columns are not enough because of the
# biases, and the last case is the treacherous one: with columns and biases zero, from a zero state,
# the unit's output is exactly 0 for ever, so cutting it is lossless. But hand the same network a
# state from elsewhere, and the unit's old cell fades away audibly. A test that starts at zero
# states, with the zero biases of a fresh network, calls all of the cases with zero columns
# lossless.
#
# `alive(params, groups, readers)` is the exact condition, one slice at a time. `alive(params,
# groups)` asks for more, the whole group, and is therefore safe, too; the proximal step makes whole
# groups zero, so in training the two agree.
#
# The model has to say who its readers are, as a layout cannot know it: a column of the embedding of
# a highway network is read by the softmax (tutorial 6), and in PyTorch's arrays readers are columns
# (tutorial 7).

# %%
print("readers:", ptb_lstm.readers)
assert ptb_lstm.readers == (("lstm*/kernel", 0), ("softmax/kernel", 0))

# %% [markdown]
# ## Why not exactly nothing?
#
# A unit that nobody reads adds products with zero to each sum, and those are exact. Yet in a larger
# network the change need not be 0 to the last bit: matrix products add in blocks, and where the
# blocks begin depends on the size, so the *same* numbers are added in another order. If that is the
# reason, the change must follow the precision: in units of $\varepsilon$, the spacing of numbers at
# 1, it should be alike in float64 and float32. We take two layers of 300 units, of which nobody
# reads the odd ones.

# %%
wide = ptb_lstm.layout(ptb_lstm.Config(vocabulary=7, embed_size=300, hidden_sizes=(300, 300)))
even = {space: np.arange(300) % 2 == 0 for space in ("lstm0", "lstm1")}
wide_params = {array: rng.normal(0, 0.2, wide.shape(array)) for array in wide.axes}
for array, first in (("lstm0/kernel", 300), ("lstm1/kernel", 0), ("softmax/kernel", 0)):
    wide_params[array][first + 1 :: 2] = 0
in_units = {}
for dtype in (np.float64, np.float32):
    network = {array: values.astype(dtype) for array, values in wide_params.items()}
    narrow, _ = compact(network, wide, even)
    ways = [logits(one, ptb_lstm.zero_state(one, BATCH)) for one in (network, narrow)]
    in_units[dtype.__name__] = np.abs(ways[0] - ways[1]).max() / np.finfo(dtype).eps
    print(f"{dtype.__name__}: the largest change is {in_units[dtype.__name__]:.2g} epsilon")
assert max(in_units.values()) < 100

# %% [markdown]
# ## What is cut along
#
# Weights and biases are not the only arrays that have an entry for each unit. The **carried state**
# has one, and so have the **dropout masks**. (*Dropout* silences units at random in training: what
# a unit passes on is multiplied by its entry of a mask, which is here 1 / 0.7 with probability 0.7,
# and otherwise 0.) Both have a layout, so the same call cuts them. For the state to be forgotten is
# harmless, since shapes do not fit. The mask is a trap: a program usually *draws* it, at whatever
# size the network has now.
#
# Draw a mask for the whole network, and another one at the smaller size from the same random
# numbers. In the second, the numbers fall on other units: after the cut, every unit is dropped out
# at other times than it would have been. Only masks drawn at the original width and then cut give
# the same network.

# %%
ONE = {"steps": STEPS, "batch": BATCH}
masks = ptb_lstm.draw_masks(config, layout.sizes, np.random.default_rng(3), **ONE)
unheard = {array: values.copy() for array, values in params.items()}
for array, index in (RECURRENT, READER):
    unheard[array][index] = 0
small, small_layout = compact(unheard, layout, kept)
small_state, _ = compact(live_state, states, kept)
cut_masks, _ = compact(masks, ptb_lstm.mask_layout(layout, masks), kept)
drawn_masks = ptb_lstm.draw_masks(config, small_layout.sizes, np.random.default_rng(3), **ONE)

whole = logits(unheard, live_state, masks)
with_cut = np.abs(whole - logits(small, small_state, cut_masks)).max()
with_drawn = np.abs(whole - logits(small, small_state, drawn_masks)).max()
print(f"masks cut: a logit changes by {with_cut:.0e}; drawn at the smaller size: {with_drawn:.2f}")
assert with_cut < LOSSLESS
assert with_drawn > 0.1

# %% [markdown]
# ## And back
#
# `expand` is the inverse: it puts zeros where the units were. Going there and back loses only what
# was cut, and in the other direction nothing at all, to the last bit. Cutting twice is cutting
# once.

# %%
large, large_layout = expand(small, small_layout, kept)
silenced = zero_dead(unheard, layout, kept)  # the unit's slices, biases too, set to zero
there_again, _ = compact(large, large_layout, kept)
assert large_layout == layout
assert all(np.array_equal(large[array], silenced[array]) for array in layout.axes)
assert all(np.array_equal(there_again[array], small[array]) for array in layout.axes)

two, two_layout = compact(unheard, layout, {"lstm1": np.array([True, False, True, True])})
two, two_layout = compact(two, two_layout, kept)
one, one_layout = compact(unheard, layout, {**kept, "lstm1": np.array([True, False, True, True])})
assert two_layout == one_layout
assert all(np.array_equal(two[array], one[array]) for array in layout.axes)
print(f"parameters {layout.parameters()} -> {small_layout.parameters()} -> ", end="")
print(f"{large_layout.parameters()}")
assert layout.parameters() == large_layout.parameters() == 328
assert small_layout.parameters() == 268

# %% [markdown]
# So a compact network can be saved with one boolean for each unit of the original, and restored to
# its old shape for a program that expects it.
#
# ## While training
#
# Units die one by one, the first of them early. It would be a pity to drag their zeros along to the
# end. May a unit be cut in the middle of training, at the step at which it dies? Outputs stay the
# same, as we know. But would the unit have come *back*?
#
# Let unit $k$ of an LSTM have a group of zeros, and set its biases and its carried state to zero as
# well. Then, in the uncut network:
#
# 1. *It is silent.* Its preactivations are 0, its candidate is $\tanh(0) = 0$, so its cell stays
#    $f \cdot 0 + i \cdot 0 = 0$, and its output is $o \tanh(0) = 0$.
# 2. *Its readers get no gradient.* The gradient of a reader's weight is a sum of the unit's output
#    times something, hence 0.
# 3. *It gets no gradient itself.* What comes back to its output is a sum over its readers' weights,
#    all of them 0; so $\mathrm{d}h$, $\mathrm{d}c$ and the four gates' gradients are 0, and with
#    them those of columns and biases.
#
# **Every gradient of the unit is exactly zero.** No step moves it, it adds nothing to the norm by
# which gradients are clipped, and the proximal step shrinks what is 0 to 0. At the next step all of
# this holds again. The unit is out for good, and the others cannot tell whether it is there. The
# biases are our own decision: they are in no group, and training alone would not make them zero.

# %%
dead_state = zero_dead(live_state, states, kept)
(_, _), backward = ptb_lstm.loss(
    silenced, dead_state, tokens=tokens, targets=np.roll(tokens, -1, axis=0), masks=masks
)
grads, _ = backward(1.0)
rest = zero_dead(grads, layout, kept)
on_unit = sum(np.abs(grads[array] - rest[array]).sum() for array in grads)
print(f"sum of all gradients of the dead unit: {on_unit}")
assert on_unit == 0

# %% [markdown]
# ### A hundred and twenty steps, twice
#
# Now a whole training run, once with the units cut as they die and once with their zeros kept. The
# text imitates the documentation that every Python carries: "return the first item of the list .",
# in which the last noun follows from the one before. The run has everything that could go wrong:
# dropout; state carried from window to window; *clipping*, which shortens a gradient that is longer
# than a limit to this length; *momentum*, which steps along a sum of all gradients so far, older
# ones counting less; and a proximal step that starts from the shares with which the last one ended.
# What of these has an entry for each unit has to be cut along. For the first 60 steps the strength
# is 0, so that the network learns something; then follow 120 with the penalty.

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
WINDOW, RATE, MOMENTUM, CLIP, STRENGTH = 16, 0.3, 0.8, 2.0, 0.2


def train(cut, steps=180, forget=None):
    """Losses, widths and multiply-adds of each step; `forget` names one thing that is not done."""
    rng = np.random.default_rng(1)
    original = now = ptb_lstm.layout(TOY)
    params = ptb_lstm.init_params(TOY, now, np.random.default_rng(0))
    velocity = now.allocate()
    state = ptb_lstm.state_layout(now, 16).allocate()
    living = {space: np.ones(24, bool) for space in ("lstm0", "lstm1")}
    shares, curve = None, []
    for step in range(steps):
        place = step * WINDOW % (len(text) - WINDOW)
        sizes = now.sizes if forget == "masks" else original.sizes
        drawn = ptb_lstm.draw_masks(TOY, sizes, rng, steps=WINDOW, batch=16)
        if cut and forget != "masks":
            drawn, _ = compact(drawn, ptb_lstm.mask_layout(original, drawn), living)
        words, aims = text[place : place + WINDOW], text[place + 1 : place + WINDOW + 1]
        window = {"tokens": words, "targets": aims, "masks": drawn}
        (loss, state), backward = ptb_lstm.loss(params, state, **window)
        grads, _ = backward(1.0)
        scale = RATE * clip_scale(global_norm(grads), CLIP)
        velocity = {array: MOMENTUM * velocity[array] - scale * grads[array] for array in grads}
        groups = iss_groups(now, ["lstm0", "lstm1"])
        moved = {array: params[array] + velocity[array] for array in params}
        strength = RATE * STRENGTH if step >= 60 else 0.0
        params, certificate = prox(moved, groups, strength, warm_start=shares)
        shares = certificate.warm_start

        alive_now = groups.split(~certificate.dead)
        carried = ptb_lstm.state_layout(now, 16)
        if cut and certificate.dead.any():
            still = np.append(~certificate.dead, True)  # the last share is that of "no group"
            shares = shares[np.ix_(still, still)]
            state, _ = compact(state, carried, alive_now)
            velocity, _ = compact(velocity, now, alive_now)
            params, now = compact(params, now, alive_now)
            for space, alive_here in alive_now.items():
                living[space][living[space]] = alive_here
        if not cut:
            quiet = zero_dead(params, now, alive_now)
            params = params if forget == "biases" else quiet
            state = state if forget == "state" else zero_dead(state, carried, alive_now)
            if forget != "momentum":
                velocity = zero_dead(velocity, now, alive_now)
        widths = [int(alive_here.sum()) for alive_here in alive_now.values()]
        curve.append((loss / WINDOW, *widths, ptb_lstm.multiply_adds(now)))
    return np.array(curve)


small_run, large_run = train(cut=True), train(cut=False)
apart = np.abs(small_run[:, :3] - large_run[:, :3])
ends = [int(width) for width in small_run[-1, 1:3]]
print(f"units alive at the end: {ends[0]} + {ends[1]} of 24 + 24")
print(f"losses of the two runs: at most {apart[:, 0].max():.0e} nats apart, in any of 180 steps")
print(f"units alive: at most {apart[:, 1:].max():.0f} apart")
assert sum(ends) < 40
assert apart[:, 0].max() < 1e-9
assert apart[:, 1:].max() == 0

# %% [markdown]
# Both runs are one. The small differences come from the order of summation, and grow slowly, as
# rounding errors do in any training.
#
# ### What if something is forgotten?
#
# Now we leave out one thing at a time. Three runs keep the zeros, but let a dead unit keep its
# biases, its carried state, or its momentum (the velocity with which its weights were moving when
# they died). A fourth cuts the units, but draws dropout masks at the size that the network has now.

# %%
FORGET = ("biases", "state", "momentum", "masks")
careless = {forget: train(cut=forget == "masks", forget=forget) for forget in FORGET}
gaps = {"nothing": apart[:, 0]}
for forget, run in careless.items():
    gaps[forget] = np.abs(run[:, 0] - small_run[:, 0])
    came_back = int(np.maximum(np.diff(run[:, 1:3], axis=0), 0).sum())
    print(f"forgotten: {forget:9} losses up to {gaps[forget].max():.0e} apart, ", end="")
    print(f"{came_back} returns of a dead unit")
assert all(gaps[forget].max() > 1e-7 for forget in ("biases", "state", "masks"))
assert gaps["momentum"].max() < 1e-7

# %%
figure, panels = plt.subplots(3, 1, figsize=(7.5, 5.4), sharex=True, height_ratios=(3, 2, 3))
along = np.arange(1, 181)
panels[0].plot(along, large_run[:, 0], color="#BBBBBB", linewidth=4, label="zeros kept")
panels[0].plot(along, small_run[:, 0], color=COLOURS[0], linewidth=1.1, label="units cut")
panels[0].set_title("loss of a word in nats: two runs, one curve")
panels[0].legend(frameon=False)
for number, colour in ((1, COLOURS[0]), (2, COLOURS[1])):
    name = ("lower layer", "upper layer")[number - 1]
    panels[1].plot(along, large_run[:, number], color="#DDDDDD", linewidth=4)
    panels[1].step(along, small_run[:, number], color=colour, where="post", label=name)
panels[1].set(title="units alive", ylim=(0, 26))
panels[1].legend(frameon=False, loc="lower left")
for (name, gap), colour in zip(gaps.items(), COLOURS, strict=False):
    panels[2].plot(along, np.where(gap > 0, gap, np.nan), ".", color=colour, label=name)
panels[2].set(yscale="log", xlabel="step", xlim=(0, 181), ylim=(1e-17, 10))
panels[2].set_title("difference from the run with units cut (exact agreement is not drawn)")
panels[2].legend(title="forgotten", frameon=False, loc="upper left", fontsize=8)
figure.savefig(FIGURES / "5_training.png")

# %% [markdown]
# Live biases do the most harm: the unit goes on speaking, so its readers get gradients, and it
# returns from the dead several times. (Those gradients also enter the clipped norm, so all others
# feel it.) The carried state is an echo: it lasts for a few steps, long enough to put the runs on
# different tracks. Masks of another size are another random experiment, no worse and no better, but
# not the same. The momentum is the least: the weights do move, but less than the proximal step
# takes away, which sets them to zero again each time. That is luck; a unit that dies with a large
# velocity would be thrown out of zero again.
#
# ## What speed it gives
#
# The arithmetic of a step is proportional to the network's *multiply-adds*. In our run they fall
# with every death, so that the whole training costs less than the same training with zeros kept.

# %%
saved = 1 - small_run[:, 3].sum() / large_run[:, 3].sum()
last = small_run[-1, 3] / large_run[-1, 3]
print(f"multiply-adds of the last step: {last:.0%} of the full network's")
print(f"saved over the whole training: {saved:.0%}")
assert last < 0.6
assert saved > 0.1

# %% [markdown]
# And the clock? It follows multiply-adds as long as the matrices are large. We time one training
# step, forward and backward, for networks with layers of 512 units down to 32, with 1000 words and
# windows of 20 words by 20 sentences. Then, for the largest one, we set nine weights in ten to
# zero, scattered.


# %%
def seconds(params, width, repeats=4):
    """The shortest time of a loss and its gradient: others may be using this computer as well."""
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
assert ratio[1] > 3
assert scattered > timed[512][1] / 3

# %%
figure, axes = plt.subplots(figsize=(7.5, 3.2))
work, times = np.array(list(timed.values())).T
axes.plot(work, times[-1] * work / work[-1], color="#999999", linewidth=1, label="proportional")
axes.plot(work, times, "o-", color=COLOURS[0], label="units cut out")
axes.plot(work[-1], scattered, "s", color=COLOURS[1], label="90% of weights zero, scattered")
for width, (x, y) in timed.items():
    axes.annotate(f"2 x {width}", (x, y), (0, 7), textcoords="offset points", ha="center")
axes.set(xscale="log", yscale="log", xlabel="multiply-adds a word", ylabel="seconds for a step")
axes.set(title="Time of one training step, forward and backward", xlim=(3e4, 1e7))
axes.set_ylim(top=times[-1] * 2.5)
axes.legend(frameon=False, loc="upper left")
figure.savefig(FIGURES / "5_speed.png")

# %% [markdown]
# Small matrices keep the arithmetic units waiting, so the gain in time is less than that in
# multiply-adds at the lower end. With the paper's widths it can be more: the paper reports 10.6
# times faster for 7.5 times less work, since matrices that fit in the cache are faster still. Zeros
# that are scattered give nothing at any width.
#
# ## Exercise
#
# A unit $k$ of the lower layer is read by one weight alone: the one that leads to the output gate
# of unit $j$ of the upper layer. Nobody reads unit $j$.
#
# 1. Which of the two does `alive(..., readers)` find dead?
# 2. Is it lossless to cut both at once?
# 3. How do you find all units that can be cut?
#
# Try to answer before you read on.
#
# ### Answer
#
# 1. Only $j$. The weight from $k$ to $j$ is a reader of $k$ that is not zero, and `alive` looks at
#    slices, not at what becomes of what they read.
# 2. Yes: $k$ is heard by $j$ alone, and $j$ by nobody.
# 3. Cut, and ask again, until nothing more is dead: with unit $j$ its column has gone, and with it
#    the only reader of $k$. The proximal step does not need this, as it makes whole groups zero,
#    columns included.

# %%
J, K = 1, 3
chain = {array: values.copy() for array, values in params.items()}
chain["lstm0/kernel"][3 + K] = 0
chain["lstm1/kernel"][K] = 0
chain["lstm1/kernel"][K, 12 + J] = 0.9  # the last block of columns is the output gate
chain["lstm1/kernel"][4 + J] = 0
chain["softmax/kernel"][J] = 0

now, now_layout, now_state, rounds = chain, layout, live_state, []
while True:
    found = alive(now, iss_groups(now_layout, ["lstm0", "lstm1"]), ptb_lstm.readers)
    rounds.append([int((~found[space]).sum()) for space in ("lstm0", "lstm1")])
    if all(units.all() for units in found.values()):
        break
    now_state, _ = compact(now_state, ptb_lstm.state_layout(now_layout, BATCH), found)
    now, now_layout = compact(now, now_layout, found)
print("dead in the lower and upper layer, round by round:", rounds)
left = np.abs(logits(chain, live_state) - logits(now, now_state)).max()
widths = [now_layout.sizes[space] for space in ("lstm0", "lstm1")]
print(f"layers of {widths[0]} and {widths[1]} units are left, a logit has changed by {left:.0e}")
assert rounds == [[0, 1], [1, 0], [0, 0]]
assert widths == [3, 3]
assert left < LOSSLESS

# %% [markdown]
# ## What to take away
#
# - A unit can be cut without loss as soon as all that *reads* it is zero. One row is not enough,
#   and neither are its columns.
# - State, masks, momentum and warm start are cut along, by the same table.
# - `expand` undoes `compact`, with zeros.
# - A dead unit whose biases and state are zero has gradients of exactly zero. So it can be cut out
#   at the step at which it dies, and training goes on as if nothing had happened.
# - Time follows the multiply-adds of what is left. Scattered zeros save nothing.
#
# ## Where to go next
#
# - [Tutorial 6](6_highways.py) applies the same functions to another network.
# - `issref/iss/compact.py` is compaction, and `issref/training/pruning.py` its use in training.
