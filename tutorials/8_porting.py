# %% [markdown]
# # 7. Porting ISS, and checking a port
#
# You want intrinsic sparse structures in PyTorch, JAX, Rust or C++. The equations fit on a
# page, and still most ports of an LSTM have been wrong at some time: gates in another order, a
# state that is read before it is set, a bias counted twice. Such a network trains. It only
# trains worse, and nobody can tell why.
#
# **You will learn** to port the two things that ISS needs of a network, an LSTM with all its
# gradients and the group lasso over its units, to PyTorch in some forty lines; and to let issref
# look for mistakes: first in the port as it should be, and then in the same port with one mistake,
# which the kit finds and calls by its name.
#
# **You need** [tutorial 1](1_one_unit.py), [tutorial 2](2_the_penalty.py) for the penalty, and
# PyTorch: `pip install '.[torch]'`. It takes 10 minutes to read and less than a minute to run.
# Every number in the text is computed below, and an `assert` next to it checks it.

# %%
from itertools import chain
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from issref import group_norms, iss_groups
from issref.models import ptb_lstm
from issref.report import COLOURS, STYLE
from issref.verify.formats import torch as spelled
from issref.verify.suite import conformance
from issref.verify.suite.diagnosis import explain

plt.rcParams.update(STYLE | {"figure.dpi": 110, "savefig.dpi": 160})
FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
# ## The same network in other arrays
#
# PyTorch keeps an LSTM's weights in other arrays than issref does: the input's and the state's
# apart, transposed, with the gates in the order input, forget, candidate, output, and with two
# biases where one is meant. For ISS none of this matters, because it only asks which unit lies
# along which axis. That is what a layout says, and PyTorch's arrays have one too.

# %%
sizes = (5, 4, 3)  # the input's width, and the units of two layers
theirs = spelled.layout(sizes)
for array in theirs.axes:
    print(f"{array:14} {theirs.shape(array)!s:9} axes: {theirs.spell(array)}")

# %% [markdown]
# A unit's group is every row and column where it stands, whatever the array is called. So the
# weights may move from one spelling to the other, and every group keeps its norm. We check it
# with random weights: `from_reference` writes them as PyTorch has them.

# %%
config = ptb_lstm.Config(vocabulary=2, embed_size=5, hidden_sizes=(4, 3))
layout, rng = ptb_lstm.layout(config), np.random.default_rng(0)
params = {array: rng.normal(size=layout.shape(array)) for array in layout.axes}
params["softmax/kernel"][:] = 0  # the LSTM alone: PyTorch's module has no softmax
spaces = ["lstm0", "lstm1"]
ours = group_norms(params, iss_groups(layout, spaces))
same = group_norms(spelled.from_reference(params), iss_groups(theirs, spaces))
difference = float(np.abs(ours - same).max())
print("norms of the seven groups, ours: ", np.round(ours, 2))
print("norms of the seven groups, theirs:", np.round(same, 2))
assert difference < 1e-12

# %% [markdown]
# ## A port in forty lines
#
# Here is the port. `lstm` is the recurrence of the paper in PyTorch's words; autograd finds the
# gradients. `norms` needs nothing of a network but its layout: `ids` says for each row or
# column which group it belongs to, rows and columns are added up, and what a unit has with
# itself, which both sums have counted, is taken off once. (The released code leaves it in, and
# adds a small number under the root; the keywords of a case say which convention is meant.)
#
# One line is a trap of its own. The root has no derivative at zero, and autograd says so with a
# `nan` for every weight of a dead group: the very groups that we are after. At a zero group the
# penalty's gradient is taken to be zero.


# %%
def lstm(x, h, c, kernel, bias, forget_bias=0.0, lengths=None, reverse=False):
    hidden = [torch.zeros_like(h)] * len(x)
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        i, g, f, o = (torch.cat((x[t], h), dim=1) @ kernel + bias).chunk(4, dim=1)
        new_c = torch.sigmoid(f + forget_bias) * c + torch.sigmoid(i) * torch.tanh(g)
        new_h = torch.sigmoid(o) * torch.tanh(new_c)
        runs = torch.ones(len(h), 1) > 0 if lengths is None else (t < lengths)[:, None]
        h, c = torch.where(runs, new_h, h), torch.where(runs, new_c, c)
        hidden[t] = torch.where(runs, new_h, torch.zeros_like(h))
    return torch.stack(hidden), h, c


def ids(axis, sizes, first, none):
    where = {space: torch.arange(n) + first.get(space, none) for space, n in sizes.items()}
    known = [where[s] if s in first else torch.full((sizes[s.strip("~")],), none) for s in axis]
    return torch.cat(known)


def norms(params, axes, sizes, strength, self_weight, smoothing):
    ends = torch.tensor([0, *(sizes[space] for space in strength)]).cumsum(0).tolist()
    first, none = dict(zip(strength, ends, strict=False)), ends[-1]
    energy = torch.zeros(none + 1, dtype=params["embed/kernel"].dtype)
    for array in [array for array, along in axes.items() if {*chain(*along)} & {*strength}]:
        squares = params[array] ** 2
        rows, columns = (ids(axis, sizes, first, none) for axis in axes[array])
        energy = energy.index_add(0, rows, squares.sum(1)).index_add(0, columns, squares.sum(0))
        twice = (2 - self_weight) * (squares * (rows[:, None] == columns)).sum(1)
        energy = energy.index_add(0, rows, -twice)
    energy = energy[:-1] + smoothing
    return torch.where(energy > 0, energy, 1.0).sqrt() * (energy > 0)  # no nan at a zero group


def port(case, op, inputs, told):
    a = {name: torch.tensor(values) for name, values in inputs.items()}
    if op == "penalty":
        names, (axes, sizes) = list(a), (told["layout"][part] for part in ("axes", "sizes"))
        leaves, strength = [a[name].requires_grad_() for name in names], told["strength"]
        each = [torch.full((sizes[space],), value) for space, value in strength.items()]
        found = norms(a, axes, sizes, strength, told["self_weight"], told["smoothing"])
        outputs, prefix, arriving = {"value": torch.cat(each).to(found) @ found}, "d/", None
    else:
        names, prefix = ("x", "h0", "c0", "kernel", "bias"), "d"
        leaves = [a[name].requires_grad_() for name in names]
        found, forward = lstm(*leaves, lengths=a.get("lengths"), **told), ("hidden", "h", "c")
        outputs = dict(zip(forward, found, strict=True))
        arriving = [a[f"d{name}"] for name in forward]
    grads = torch.autograd.grad(list(outputs.values()), leaves, arriving, allow_unused=True)
    outputs |= {prefix + n: grad for n, grad in zip(names, grads, strict=True) if grad is not None}
    return {name: one.detach().numpy() for name, one in outputs.items()}


# %% [markdown]
# ## The suite
#
# issref carries a suite of cases, computed in extended precision. Each case has inputs, the
# outputs that a port should give, a tolerance, and the pitfalls that it guards. What the cases
# have in common is that nothing in them is special: every gate has weights of its own, the
# states are not zero, gradients arrive at every output. (A test with equal weights everywhere
# cannot tell gates apart, and published ones are like that.) Then come the special ones: a
# single step, a single unit, saturated gates, ragged lengths, time that runs backwards.
#
# From a shell one would type `python -m issref.crosscheck port mymodule:port`, or, for a port
# in another language, let `vectors` write the files and `score` read what the port has written
# back. Here we call the same functions. We ask for the cases that our port is about.

# %%
suite = conformance.load().chosen(("lstm*", "penalty*"))


def crosscheck(port):
    outputs, raised = conformance.run(port, suite, ("float64",))
    scores = conformance.score(suite, outputs, raised)
    return scores, explain(suite, outputs, scores)


scores, explained = crosscheck(port)
for one in scores:
    print(f"{one.case:24} {one.verdict}  {one.ulp:6.1f} of {one.most} ulp   {one.guards[0]}")
passed = sum(one.verdict == "pass" for one in scores)
print(f"{passed} of {len(scores)} cases pass")
assert passed == len(scores)
assert passed == 14
assert explained == []

# %% [markdown]
# The error of a case is the largest over all its outputs and gradients, in units in the last
# place of the largest entry; it comes from rounding alone. If your port is in float32, ask for
# `float32`: the inputs were rounded first, so that what is expected is still exact.
#
# ## One mistake
#
# Now the most common mistake of all. PyTorch's own `nn.LSTM` has its gates in the order input,
# forget, candidate, output. Whoever copies weights from it, or writes from memory, is soon led
# to take the four blocks of columns in that order. The shapes fit; nothing complains.


# %%
def swapped_lstm(x, h, c, kernel, bias, **told):
    def reorder(columns):
        i, f, g, o = columns.chunk(4, dim=-1)  # reads PyTorch's order where issref's is meant
        return torch.cat((i, g, f, o), dim=-1)

    return right_lstm(x, h, c, reorder(kernel), reorder(bias), **told)


right_lstm, lstm = lstm, swapped_lstm
wrong_scores, explained = crosscheck(port)
lstm = right_lstm
failed = [one.case for one in wrong_scores if one.verdict == "fail"]
print(f"{len(failed)} of {len(wrong_scores)} cases fail, all of them LSTMs")
print("what explains the numbers:", explained[0])
assert len(failed) == 10
assert all(case.startswith("lstm") for case in failed)
assert len(explained) == 1
assert "input, forget, candidate, output" in explained[0]

# %% [markdown]
# The kit has tried the known mistakes, all other orders of the gates among them, on a plain
# LSTM of its own, and one of them gives exactly our numbers, case by case: there is no need to
# search. What it cannot explain it does not guess at; it then shows the case and the tensor
# that is furthest off.
#
# The picture shows both ports. An error of rounding is a few units in the last place; an error
# of meaning is some thousand million million times as large. Between the two lies nothing, and
# that is why a tolerance of 1e-2, which many tests have, is too kind: it hides what a tight one
# would tell.

# %%
figure, axes = plt.subplots(figsize=(7, 3.8))
rows = np.arange(len(scores))
drawn = {"the port": scores, "two gates swapped": wrong_scores}
for (label, found), colour in zip(drawn.items(), COLOURS, strict=False):
    axes.plot([max(one.ulp, 0.1) for one in found], rows, "o", color=colour, label=label)
axes.plot([one.most for one in scores], rows, "|", color="black", markersize=12, label="tolerance")
axes.set(xscale="log", title="largest error of a case, in units in the last place (0 drawn at 0.1)")
axes.set_yticks(rows, [one.case for one in scores])
axes.invert_yaxis()
axes.legend(loc="lower right", fontsize=8)
figure.savefig(FIGURES / "7_cases.png")
plt.close(figure)
worst = max(one.ulp for one in scores)
least = min(one.ulp for one in wrong_scores if one.verdict == "fail")
print(f"least error of meaning over largest of rounding: 1e{np.log10(least / worst):.0f}")
assert least > 1e9 * worst

# %% [markdown]
# ## What the kit cannot know
#
# A port that passes computes what issref computes, on these inputs. It does not follow that
# your training loop calls it rightly. The cases `train*` hold whole steps of training, ten of
# them in a row, with the clip, the step and the proximal step in their order; a port of the
# loop should take these too. And a pruned model can be wrong although every op is right:
# `python -m issref.crosscheck pruned BEFORE AFTER` compares two checkpoints, finds which units
# are gone, and says whether the network is still the same function.

# %% [markdown]
# ## Exercise
#
# In `norms`, what a unit has with itself is taken off once if `self_weight` is 1. Leave that
# line out. Which of the four penalty cases fail, and why not all?
#
# Try to answer before you read on.
#
# ### Answer
#
# The two cases of the paper's set convention fail, for the LSTM and for the highway network. The
# two of the released convention pass, because there a weight of a unit with itself is meant to be
# counted twice.


# %%
right_norms = norms


def norms(params, axes, sizes, strength, self_weight, smoothing):
    return right_norms(params, axes, sizes, strength, 2, smoothing)


exercise, _ = crosscheck(port)
norms = right_norms
fails = [one.case for one in exercise if one.verdict == "fail"]
print("without that line these fail:", ", ".join(fails))
assert fails == ["penalty-lstm", "penalty-rhn"]

# %% [markdown]
# ## What to take away
#
# - A port needs the network's equations, a layout of its arrays, and nothing else of issref.
# - At a zero group the root needs care, or automatic differentiation returns `nan`.
# - Correct ports are off by a few units in the last place, wrong ones by very much more. Compare
#   with a tight tolerance, and let the kit name the mistake.
#
# ## Where to go next
#
# - The README that `python -m issref.crosscheck vectors my-port` writes says, op by op, what a port
#   in any language reads and writes.
# - `issref/verify/suite/reference_port.py` is issref itself as a port, and the shortest answer to any question
#   about a case.
# - `python -m issref.crosscheck convert` moves weights instead of code.
# - [Tutorial 3](3_backward_by_hand.py) derives the gradients, if yours are the ones that are off.
