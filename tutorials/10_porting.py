# %% [markdown]
# # 10. Porting ISS, and checking a port
#
# You want to implement intrinsic sparse structures in PyTorch, JAX, Rust or C++. The equations fit
# on a page, and still mistakes are common in ports of an LSTM: gates in another order, a state that
# is read before it is set, a bias counted twice. Such a network often still trains. Its results are
# slightly worse, or wrong if its weights are from another program, and the cause is hard to find.
#
# **You will learn** to port two parts of ISS, an LSTM with all its gradients and the group lasso
# over its units, to PyTorch in about fifty lines; and to check the port with issref: first the
# correct port, and then the same port with one mistake, which issref finds and names.
#
# **You need** [tutorial 1](1_one_unit.py), [tutorial 2](2_the_penalty.py) for the penalty, and
# PyTorch: `pip install '.[torch]'`. It takes about 40 minutes to read, with the exercise, and
# seconds to run. Numbers about our own networks are computed below, and most are checked by an
# `assert`.

# %%
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from issref import group_norms, iss_groups
from issref.models import ptb_lstm
from issref.report import COLOURS, STYLE
from issref.verify.formats import torch as torch_format
from issref.verify.suite import conformance, scoring
from issref.verify.suite.diagnosis import explain

plt.rcParams.update(STYLE | {"figure.dpi": 110, "savefig.dpi": 160})
FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
# ## The same network in other arrays
#
# PyTorch stores the weights of an LSTM in other arrays than issref: the kernels of input and state
# are separate and transposed, the gates are in the order input, forget, candidate, output, and
# there are two biases instead of one. For the penalty none of this matters, because it only needs
# to know which unit is at which place along each axis. This is the information in a layout, and
# PyTorch's arrays have a layout, too. To remove units, you also need the list of the readers
# (tutorial 6). In PyTorch's arrays gate slices are rows, and the readers are columns.

# %%
sizes = (5, 4, 3)  # the input's width, and the units of two layers
theirs = torch_format.layout(sizes)
for array in theirs.axes:
    print(f"{array:14} {theirs.shape(array)!s:9} axes: {theirs.spell(array)}")

# %% [markdown]
# A unit's group consists of all rows and columns of the unit, whatever the arrays are called. So
# converting the weights from one format to the other does not change the norm of any group. We
# check this with random weights: `from_reference` converts them to PyTorch's format.

# %%
config = ptb_lstm.Config(vocabulary=2, embed_size=5, hidden_sizes=(4, 3))
layout, rng = ptb_lstm.layout(config), np.random.default_rng(0)
params = {array: rng.normal(size=layout.shape(array)) for array in layout.axes}
params["softmax/kernel"][:] = 0  # the LSTM alone: PyTorch's module has no softmax
spaces = ["lstm0", "lstm1"]
ours = group_norms(params, iss_groups(layout, spaces))
same = group_norms(torch_format.from_reference(params), iss_groups(theirs, spaces))
difference = float(np.abs(ours - same).max())
print("norms of the seven groups, ours: ", np.round(ours, 2))
print("norms of the seven groups, theirs:", np.round(same, 2))
assert difference < 1e-12

# %% [markdown]
# ## A port in fifty lines
#
# Here is the port. `lstm` is the recurrence of the paper in PyTorch; autograd computes the
# gradients. `norms` needs only the layout of a network: `ids` returns the group of each row or
# column, the squares are summed over rows and columns, and the weights with which a unit reads
# itself, which are in both sums, are subtracted once. (The released code does not subtract them,
# and adds a small number under the root; `self_weight` and `smoothing` select the convention.)
#
# The suite calls `port` with the name of a case, the operation (`lstm` or `penalty`), the arrays
# and the options: `forget_bias` is added to the forget gate's preactivation, `reverse` is for
# reversed time. `lengths` are the lengths of the texts, and `dhidden`, `dh` and `dc` the gradients
# that arrive at the outputs. A port returns outputs and gradients: `dx` is the gradient of `x`, and
# `d/NAME` the gradient of the parameter NAME.
#
# One line needs special care. The square root has no derivative at zero, and autograd returns `nan`
# for every weight of a dead group, that is, for the groups that ISS wants to produce. At a zero
# group we define the penalty's gradient to be zero.


# %%
def lstm(x, h, c, kernel, bias, forget_bias=0.0, lengths=None, reverse=False):
    hidden = [torch.zeros_like(h)] * len(x)
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        a_i, a_g, a_f, a_o = (torch.cat((x[t], h), dim=1) @ kernel + bias).chunk(4, dim=1)
        i, g, f = torch.sigmoid(a_i), torch.tanh(a_g), torch.sigmoid(a_f + forget_bias)
        new_c = f * c + i * g
        new_h = torch.sigmoid(a_o) * torch.tanh(new_c)
        active = torch.ones(len(h), 1) > 0 if lengths is None else (t < lengths)[:, None]
        h, c = torch.where(active, new_h, h), torch.where(active, new_c, c)
        hidden[t] = torch.where(active, new_h, torch.zeros_like(h))
    return torch.stack(hidden), h, c


def ids(axis, sizes, first, none):
    parts = []
    for space in axis:
        n = sizes[space.removeprefix("~")]
        parts.append(first[space] + torch.arange(n) if space in first else torch.full((n,), none))
    return torch.cat(parts)


def norms(params, axes, sizes, strength, self_weight, smoothing):
    first, none = {}, 0
    for space in strength:
        first[space] = none
        none += sizes[space]
    squared = torch.zeros(none + 1, dtype=next(iter(params.values())).dtype)
    for array, along in axes.items():
        if not any(space in first for axis in along for space in axis):
            continue
        squares = params[array] ** 2
        rows, columns = (ids(axis, sizes, first, none) for axis in along)
        squared = squared.index_add(0, rows, squares.sum(1)).index_add(0, columns, squares.sum(0))
        with_itself = (squares * (rows[:, None] == columns)).sum(1)
        squared = squared.index_add(0, rows, (self_weight - 2) * with_itself)
    squared = squared[:-1] + smoothing
    return torch.where(squared > 0, squared, 1.0).sqrt() * (squared > 0)  # no nan at a zero group


def port_lstm(a, lstm, **options):
    names = ("x", "h0", "c0", "kernel", "bias")
    leaves = [a[name].requires_grad_() for name in names]
    hidden, h, c = lstm(*leaves, lengths=a.get("lengths"), **options)
    grads = torch.autograd.grad((hidden, h, c), leaves, (a["dhidden"], a["dh"], a["dc"]))
    gradients = {f"d{name}": grad for name, grad in zip(names, grads, strict=True)}
    return {"hidden": hidden, "h": h, "c": c} | gradients


def port_penalty(params, norms, layout, strength, self_weight, smoothing):
    leaves, sizes = [array.requires_grad_() for array in params.values()], layout["sizes"]
    found = norms(params, layout["axes"], sizes, strength, self_weight, smoothing)
    each = [torch.full((sizes[space],), strength[space], dtype=found.dtype) for space in strength]
    value = torch.cat(each) @ found
    grads = zip(params, torch.autograd.grad(value, leaves, allow_unused=True), strict=True)
    return {"value": value} | {f"d/{name}": grad for name, grad in grads if grad is not None}


def port(case, op, inputs, options, lstm=lstm, norms=norms):
    a = {name: torch.tensor(values) for name, values in inputs.items()}
    found = port_penalty(a, norms, **options) if op == "penalty" else port_lstm(a, lstm, **options)
    return {name: one.detach().numpy() for name, one in found.items()}


# %% [markdown]
# ## The suite
#
# issref contains a suite of test cases, computed in extended precision. Each case has inputs, the
# expected outputs, a tolerance, and a list of the mistakes that it detects. Most cases are generic:
# every gate has different weights, the states are not zero, and gradients arrive at every output.
# (A test with equal weights everywhere cannot distinguish the gates.) Other cases cover special
# situations: a single step, a single unit, saturated gates, sequences of different lengths,
# reversed time. The error of a case is the largest error over all its outputs and gradients, in
# units in the last place (*ulp*) of the largest entry.
#
# From a shell, run `python -m issref.crosscheck port mymodule:port`. For a port in another
# language, `vectors` writes the inputs to files and `score` reads the port's results. Here we call
# the same functions, for the cases that our port implements.

# %%
suite = conformance.load().chosen(("lstm*", "penalty*"))


def crosscheck(port):
    outputs, raised = conformance.run(port, suite, ("float64",))
    scores = scoring.score(suite, outputs, raised)
    return scores, explain(suite, outputs, scores)


scores, explained = crosscheck(port)
for one in scores:
    print(f"{one.case:25} {one.verdict}  {one.ulp:6.1f} of {one.most} ulp   {one.guards[0]}")
passed = sum(one.verdict == "pass" for one in scores)
print(f"{passed} of {len(scores)} cases pass")
assert passed == len(scores)
assert passed == 26
assert explained == []

# %% [markdown]
# Here the errors are caused by rounding alone. If your port uses float32, select `float32`: its
# inputs were rounded before the expected outputs were computed, so these are exact, too.
#
# ## One mistake
#
# Now a common mistake. PyTorch's own `nn.LSTM` has its gates in the order input, forget,
# candidate, output. If you copy weights from it, or write from memory, it is easy to use the four
# blocks of columns in that order. The shapes fit, and there is no error.


# %%
def swapped_lstm(x, h, c, kernel, bias, **options):
    def reorder(columns):
        first, second, third, fourth = columns.chunk(4, dim=-1)
        return torch.cat((first, third, second, fourth), dim=-1)  # as if in PyTorch's order

    return lstm(x, h, c, reorder(kernel), reorder(bias), **options)


wrong_scores, explained = crosscheck(partial(port, lstm=swapped_lstm))
failed = [one.case for one in wrong_scores if one.verdict == "fail"]
print(f"{len(failed)} of {len(wrong_scores)} cases fail, all of them LSTMs")
(finding,) = explained
print("diagnosis:", *finding.mistakes)
assert len(failed) == 20
assert all(case.startswith("lstm") for case in failed)
assert len(finding.mistakes) == 1
assert "input, forget, candidate, output" in finding.mistakes[0]

# %% [markdown]
# issref has applied the known mistakes, including all other orders of the gates, to a simple LSTM
# of its own. One of them reproduces our wrong numbers in every case, so there is no need to search.
# If no known mistake explains the numbers, issref does not guess; it names the first wrong output,
# and any pattern in its errors.
#
# The figure shows both ports. In this example the error of the mistake is many orders of magnitude
# larger than rounding. Other mistakes are smaller: if 1e-8 is left out under a root of about 1,
# only the ninth decimal changes. So use a tight tolerance; 1e-2 can hide a mistake.

# %% tags=["hide-input"]
figure, axes = plt.subplots(figsize=(7, 3.8))
rows = np.arange(len(scores))
drawn = {"the port": scores, "two gates swapped": wrong_scores}
for number, (label, found) in enumerate(drawn.items()):
    look = {"markersize": (6, 3)[number], "color": COLOURS[number], "label": label}
    axes.plot([max(one.ulp, 0.1) for one in found], rows, "o", **look)
axes.plot([one.most for one in scores], rows, "|", color="black", markersize=12, label="tolerance")
axes.set(xscale="log", title="largest error of a case, in units in the last place (0 drawn at 0.1)")
axes.set_yticks(rows, [one.case for one in scores])
axes.invert_yaxis()
axes.legend(loc="center", fontsize=8)
figure.savefig(FIGURES / "10_cases.png")

# %%
worst = max(one.ulp for one in scores)
least = min(one.ulp for one in wrong_scores if one.verdict == "fail")
print(f"smallest error of a mistake over largest rounding error: 1e{np.log10(least / worst):.0f}")
assert least > 1e9 * worst

# %% [markdown]
# ## What the suite does not check
#
# A port that passes computes the same as issref on these inputs. This does not guarantee that your
# training loop calls it correctly. The cases `step-*`, `windows-*` and `ten-steps-*` contain one,
# three or ten training steps: they clip, take the gradient step, then the proximal step. (Cases
# with `-released` in their names follow the authors' order.) A port of the loop should pass these,
# too. And a pruned model can be wrong although every op is right: `python -m issref.crosscheck
# pruned BEFORE AFTER` compares two checkpoints, finds the removed units, and checks whether the
# network still computes the same function.

# %% [markdown]
# ## Exercise
#
# In `norms`, the weights with which a unit reads itself are subtracted once if `self_weight` is 1.
# Leave those two lines out. Which kind of penalty case fails, and which kind passes?
#
# Try to answer before you read on.
#
# ### Answer
#
# The cases that count each weight of a group once fail, whatever the network. The cases of the
# released convention pass, because there these weights are counted twice on purpose.


# %%
def norms_without(params, axes, sizes, strength, self_weight, smoothing):
    return norms(params, axes, sizes, strength, 2, smoothing)  # the two lines then add zeros


exercise, _ = crosscheck(partial(port, norms=norms_without))
fails = [one.case for one in exercise if one.verdict == "fail"]
print("without those lines these fail:", ", ".join(fails))
assert fails == ["penalty-lstm", "penalty-rhn", "penalty-small", "penalty-one-space"]

# %% [markdown]
# ## What to take away
#
# - The penalty needs only a layout of the arrays; removal also needs the list of readers.
# - At a zero group the root needs care, or automatic differentiation returns `nan`.
# - The errors of a correct port are rounding errors of a few units in the last place. Compare with
#   a tight tolerance, and let issref find the mistake.
#
# ## Where to go next
#
# - `python -m issref.crosscheck vectors my-port` writes a README that lists, for each op, the
#   inputs and outputs of a port in any language.
# - `issref/verify/suite/reference_port.py` runs issref itself as a port; it answers most questions
#   about a case.
# - `python -m issref.crosscheck convert` converts weights between frameworks.
# - [Tutorial 3](3_backward_by_hand.py) derives the gradients, in case yours are wrong.
