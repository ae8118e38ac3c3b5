# %% [markdown]
# # 2. The penalty
#
# Units can be removed from an LSTM if training pushes *all* weights of a unit to zero together
# (tutorial 1). This tutorial derives the term that is added to the loss for that purpose, the
# *group lasso*, and its gradient. Wen et al. (ICLR 2018, arXiv 1709.05027) defined the groups.
#
# **You will learn** why the group lasso makes whole units zero while the usual penalties, L2 and
# L1, do not; how its gradient follows from two numbers for each weight; how to test any
# implementation in one line; where the authors' code differs from the formula; and what happens at
# zero, where the gradient does not exist.
#
# **You need** [tutorial 1](1_one_unit.py) and derivatives. It takes about 70 minutes to read, with
# the exercise, and seconds to run. Numbers about our own networks are computed below, and most are
# checked by an `assert`. Numbers of the paper are quoted.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from issref import block_soft_threshold, group_norms, iss_groups, penalty, zero_small_weights
from issref.models import ptb_lstm
from issref.report import COLOURS, STYLE
from issref.verify.gradcheck import complex_step, relative_error

plt.rcParams.update(STYLE | {"figure.dpi": 110, "savefig.dpi": 160})
FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
# ## Three penalties
#
# Collect all weights of unit $g$ except its biases in one vector $w_g$, the *group* of the unit. We
# compare three terms that could be added to the loss $F(w)$, each with a *strength* $\lambda \ge
# 0$:
#
# $$\text{L2:}\;\; \frac{\lambda}{2} \sum_g |w_g|^2, \qquad
#   \text{L1:}\;\; \lambda \sum_g \sum_{i} |w_{g,i}|, \qquad
#   \text{group lasso:}\;\; \lambda \sum_g |w_g| .$$
#
# $|w_g|$ is the Euclidean length (the norm) of the vector, **not squared**. This is the only
# difference from L2 (weight decay), and it changes everything.
#
# To see what each term does, take the simplest loss, $F(w) = \frac12 |w - v|^2$: the data prefer
# the weights $v$. Let there be 8 units with 12 weights each, one unit in each row, some units more
# important than others. All three minima have a closed form:
#
# - L2: $w = v / (1 + \lambda)$. Everything shrinks by the same factor.
# - L1: each weight moves towards zero by $\lambda$, and stops at zero.
# - group lasso: each *row* becomes shorter by $\lambda$ and keeps its direction; a row that is not
#   longer than $\lambda$ becomes zero. (Tutorial 4 derives this.)
#
# To compare fairly, we choose the strengths of L1 and of the group lasso so that each makes *half
# of the weights* zero, 48 of 96: the strength of L1 is between the 48th and the 49th smallest
# absolute weight, that of the group lasso between the lengths of the 4th and the 5th shortest row.
# L2 makes no zeros; its strength is chosen so that it moves the weights as far as the group lasso
# does.

# %%
rng = np.random.default_rng(0)
importance = np.array([1.0, 0.3, 0.8, 0.25, 0.4, 0.9, 0.35, 0.7])
v = importance[:, None] * rng.normal(size=(8, 12))

by_weight = np.sort(np.abs(v).ravel())[47:49].mean()
by_row = np.sort(np.linalg.norm(v, axis=1))[3:5].mean()
lasso = np.array([block_soft_threshold(row, by_row) for row in v])
shrink = 1 - np.linalg.norm(lasso - v) / np.linalg.norm(v)  # 1 / (1 + strength)
found = {
    "L2": v * shrink,
    "L1": np.sign(v) * np.maximum(np.abs(v) - by_weight, 0),
    "group lasso": lasso,
}
zeros = {name: int((w == 0).sum()) for name, w in found.items()}
empty = {name: int((w == 0).all(axis=1).sum()) for name, w in found.items()}
for name in found:
    print(f"{name:12} {zeros[name]:2} of 96 weights are zero, and {empty[name]} of 8 units")
assert list(zeros.values()) == [0, 48, 48]
assert list(empty.values()) == [0, 0, 4]

# %% tags=["hide-input"]
figure, panels = plt.subplots(1, 4, figsize=(8.6, 2.1))
shown = {"$v$, from the data": v, **found}
for axes, (name, w) in zip(panels, shown.items(), strict=True):
    image = axes.pcolormesh(w, cmap="RdBu", vmin=-2, vmax=2, edgecolors="white", linewidth=0.5)
    rows, columns = np.nonzero(w == 0)
    axes.plot(columns + 0.5, rows + 0.5, ".", color="#999999", markersize=2.5)
    axes.set(title=name, xticks=[], yticks=[], ylim=(8, 0), aspect="equal")
    axes.set_frame_on(False)
panels[0].set_ylabel("unit")
figure.colorbar(image, ax=panels, shrink=0.8, label="weight (dot: 0)")
figure.savefig(FIGURES / "2_three_penalties.png")

# %% [markdown]
# L2 makes all weights smaller and none zero. L1 makes as many zeros as the group lasso, but they
# are scattered, and scattered zeros save no work (tutorial 1). The group lasso has made whole rows
# zero.
#
# ### Why: the slope at zero
#
# Whether a unit is zero at the minimum depends on the slopes of loss and penalty at zero. Let
# $\nabla F_g$ be the gradient of the loss with respect to the weights of group $g$; for the moment,
# no weight is in two groups. Suppose unit $g$ is zero, and we move its weights a small distance $s$
# in the direction $d$, with $|d| = 1$. The loss falls with the slope $\langle -\nabla F_g, d
# \rangle$, which is at most $|\nabla F_g|$. The penalty rises:
#
# - L2, by $\frac{\lambda}{2} s^2$. Its slope at $s = 0$ is zero, so it can never balance the slope
#   of the loss: L2 cannot keep any weight at zero.
# - L1, by $\lambda\, s \sum_i |d_i|$. It keeps the unit at zero if $|\partial F / \partial w_{g,i}|
#   \le \lambda$ *for each weight separately*. These are 12 conditions here and 23,996 for a unit of
#   the paper's network (the exercise counts them). If one is violated, the unit is not zero.
# - group lasso, by $\lambda\, s$, the same slope in every direction. It keeps the unit at zero if
#   $|\nabla F_g| \le \lambda$: **one condition for the whole unit.** It compares the benefit of the
#   unit as a whole with $\lambda$, as we want.
#
# Why does the length of a vector have a slope at zero, when its square has none? Along a line
# through zero, $\frac12 s^2$ is flat at its minimum, and $|s|$ has a corner. A figure below shows
# both, together with the authors' version.
#
# ## The gradient
#
# Away from zero the length of a vector has the gradient
#
# $$\frac{\partial |w|}{\partial w_i} = \frac{\partial}{\partial w_i} \sqrt{\textstyle\sum_j w_j^2}
#   = \frac{2 w_i}{2 \sqrt{\sum_j w_j^2}} = \frac{w_i}{|w|} ,$$
#
# a vector of length 1 in the direction of $w$, however long $w$ is. (The gradient of L2 is $\lambda
# w$, which is small where $w$ is small. The gradient of the group lasso is not.)
#
# The groups of ISS overlap. The recurrent weight from unit $j$ to unit $k$ is in the recurrent row
# of $j$ and in a gate column of $k$. So it is in the groups of both, and both lengths depend on it.
# If one of the two groups is zero, the weight is zero, even when the other unit is alive. And the
# simple rule above, to shorten each row by $\lambda$, no longer gives the minimum: if group $j$ is
# shortened first, the shared weight changes, and with it the length of group $k$ before its turn.
# Another order gives another result, and in general no order gives the minimum. Tutorial 4 shows
# this in numbers and shortens all groups together.
#
# No weight is in more than two groups, the group of its row and the group of its column. So the
# derivative of $R = \lambda \sum_g |w_g|$ with respect to the weight $w_{rc}$ in row $r$ and column
# $c$ has at most two terms:
#
# $$\frac{\partial R}{\partial w_{rc}} = \lambda\, w_{rc} \left( \frac{1}{|\text{row group}|}
#   + \frac{1}{|\text{column group}|} \right),$$
#
# where the term is missing if the row (or column) is in no group. There is one exception. A weight
# with which a unit reads its own previous output has a row and a column of the *same* unit. It is
# in that group once, so the term occurs once: $\lambda\, w_{rc} / |w_g|$.
#
# The whole gradient needs one number for each row and one for each column. We take a network that
# is small enough to check by hand: 3 words, an embedding of size 2, two layers of 2 units, and
# weights given by formulas.

# %%
layout = ptb_lstm.layout(ptb_lstm.Config(vocabulary=3, embed_size=2, hidden_sizes=(2, 2)))
groups = iss_groups(layout, ["lstm0", "lstm1"])
params = layout.allocate()
for array, down, right in (
    ("lstm0/kernel", 0.10, -0.05),  # row i, column j: 0.10 (i + 1) - 0.05 j
    ("lstm1/kernel", 0.07, -0.02),
    ("softmax/kernel", 0.20, -0.30),
):
    rows, columns = np.indices(layout.shape(array))
    params[array] = down * (rows + 1) + right * columns

for array, (rows, columns) in groups.ids.items():
    print(f"{array:15} group of each row {rows}, of each column {columns}")
assert list(groups.ids) == ["lstm0/kernel", "lstm1/kernel", "softmax/kernel"]


def gradient_by_hand(params, strength):
    """Return the gradient of the penalty, computed directly from the formula."""
    norms = np.append(group_norms(params, groups), np.inf)  # index -1, "no group": 1 / inf = 0
    grads = {}
    for array, (rows, columns) in groups.ids.items():
        of_row, of_column = 1 / norms[rows][:, None], 1 / norms[columns]
        itself = rows[:, None] == columns
        grads[array] = strength * params[array] * (of_row + np.where(itself, 0, of_column))
    return grads


value, grads = penalty(params, groups, 1.0)
by_hand = gradient_by_hand(params, 1.0)
print("norms of the four groups:", group_norms(params, groups).round(4))
print(f"R = {value:.4f}, the two gradients differ by {relative_error(by_hand, grads):.0e}")
assert relative_error(by_hand, grads) < 1e-14
assert f"{value:.4f}" == "3.3290"

# %% [markdown]
# Group numbers 0 and 1 are the units of the lower layer, 2 and 3 are the units of the upper layer,
# and -1 means none. The embedding has no row or column in any group, and biases are not counted, so
# neither has a gradient.
#
# That two implementations agree proves little if both follow the same formula. An independent check
# uses the *value* alone: its slope along each weight must equal the gradient. We compute the slope
# by the complex step, which is exact up to rounding; tutorial 3 explains it.

# %%
counted = {array: params[array] for array in groups.ids}


def value_of(weights, **convention):
    """Return R for weights that may be complex."""
    together = {array: values.astype(complex) for array, values in weights.items()}
    return penalty(together, groups, 1.0, **convention)[0]


slopes = complex_step(value_of, counted)
print(f"gradient against the slopes of the value: {relative_error(grads, slopes):.0e}")
assert relative_error(grads, slopes) < 1e-14

# %% [markdown]
# The figure shows the factor $1 / |\text{row group}| + 1 / |\text{column group}|$ of every weight.

# %% tags=["hide-input"]
norms = np.append(group_norms(params, groups), np.inf)
figure, panels = plt.subplots(1, 3, figsize=(8.6, 2.7), width_ratios=(8, 8, 3))
KINDS = ["in one group", "in two groups", "a unit with itself: in one group, once"]
shades = ListedColormap(["#DCE9F2", "#F3D9C5", "#F6EBB0"])
for axes, (array, (rows, columns)) in zip(panels, groups.ids.items(), strict=True):
    itself = rows[:, None] == columns
    factors = 1 / norms[rows][:, None] + np.where(itself, 0, 1 / norms[columns])
    two = (rows[:, None] >= 0) & (columns >= 0)
    kinds = np.where(itself, 2, np.where(two, 1, 0))
    axes.pcolormesh(kinds, cmap=shades, vmin=0, vmax=2, edgecolors="white", linewidth=1)
    for (i, j), factor in np.ndenumerate(factors):
        axes.text(j + 0.5, i + 0.5, f"{factor:.2f}", ha="center", va="center", fontsize=6.5)
    axes.set(title=array, ylim=(len(rows), 0), aspect="equal")
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.tick_params(length=0, grid_alpha=0, labelsize=7)
    axes.set_frame_on(False)
panels[0].set_ylabel("group of the row")
panels[1].set_xlabel("group of the column (-1: none)")
handles = [Patch(color=shades(kind), label=name) for kind, name in enumerate(KINDS)]
figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
figure.savefig(FIGURES / "2_factors.png")

# %% [markdown]
# ## A test in one line
#
# If all weights are multiplied by $a > 0$, so is every length, and so is the penalty:
# $R(a w) = a R(w)$. Differentiate both sides with respect to $a$, at $a = 1$:
#
# $$\langle w, \nabla R(w) \rangle = R(w).$$
#
# This is Euler's theorem for functions that are homogeneous of degree one. It relates gradient and
# value without finite differences, so it is the first test of any implementation. Below are two
# likely mistakes, and the number that each one gives: (a) dividing by the column's group only; (b)
# adding both terms for the self weights, too.


# %%
def inner(a, b):
    return sum(float((a[array] * b[array]).sum()) for array in b)


only_columns, both_terms = {}, {}
for array, (rows, columns) in groups.ids.items():
    of_row, of_column = 1 / norms[rows][:, None], 1 / norms[columns]
    only_columns[array] = params[array] * of_column  # (a)
    both_terms[array] = params[array] * (of_row + of_column)  # (b)
print(f"R {value:.4f}, <w, gradient>: right {inner(params, grads):.4f}, ", end="")
print(f"(a) columns only {inner(params, only_columns):.4f}, ", end="")
print(f"(b) both terms always {inner(params, both_terms):.4f}")
assert f"{inner(params, grads):.4f}" == f"{value:.4f}" == "3.3290"
assert f"{inner(params, only_columns):.4f}" == "1.9416"
assert f"{inner(params, both_terms):.4f}" == "4.0624"

# %% [markdown]
# ## What the authors' code does
#
# The code released with the paper differs from the formula in two places. An implementation that
# should reproduce its numbers has to do the same.
#
# - **The self weight.** The authors' code adds the squares over a unit's columns and the squares
#   over its rows. A weight with which a unit reads itself is in both sums and is counted *twice*
#   inside the root. At the paper's size this makes 24,000 terms instead of 23,996. With two units
#   the difference is large.
# - **The smoothing.** It uses $N_g = \sqrt{|w_g|^2 + 10^{-8}}$, which avoids a division by zero.
#
# The gradient changes accordingly: $N_g$ replaces $|w_g|$, and a self weight has both terms,
# because a weight that occurs twice under the root occurs twice in the derivative. `penalty` has
# one argument for each of the two differences. (Both terms for a self weight, mistake (b) above,
# are right if the value counts self weights twice.) In the output, "as sets" means that each weight
# counts once, and "released" means as in the authors' code.

# %%
released = {"self_weight": 2, "smoothing": 1e-8}
their_value, theirs = penalty(params, groups, 1.0, **released)
print(f"R: {value:.10f} as sets, {their_value:.10f} released")
for array, place in (
    ("lstm0/kernel", (0, 1)),
    ("lstm0/kernel", (2, 1)),
    ("lstm0/kernel", (2, 0)),
    ("lstm1/kernel", (0, 1)),
    ("softmax/kernel", (1, 2)),
):
    ours, other = grads[array][place], theirs[array][place]
    print(f"{array:15} {place}: {ours:13.10f} as sets, {other:13.10f} released")
self_weight = [f"{one['lstm0/kernel'][2, 0]:.3f}" for one in (grads, theirs)]
print(f"lstm0/kernel (2, 0), a self weight: {self_weight[0]} against {self_weight[1]}")
assert self_weight == ["0.367", "0.668"]
assert f"{their_value:.10f}" == "3.6769239566"
assert f"{theirs['lstm0/kernel'][0, 1]:.10f}" == "0.0498506714"
assert f"{theirs['lstm0/kernel'][2, 1]:.10f}" == "0.5275814610"
assert f"{theirs['lstm0/kernel'][2, 0]:.10f}" == "0.6679874497"
assert f"{theirs['lstm1/kernel'][0, 1]:.10f}" == "0.1097710774"
assert f"{theirs['softmax/kernel'][1, 2]:.10f}" == "-0.2164218264"
their_slopes = complex_step(lambda weights: value_of(weights, **released), counted)
assert relative_error(theirs, their_slopes) < 1e-14

# %% [markdown]
# The largest difference is at (2, 0) of `lstm0/kernel`, 0.367 against 0.668: row 2 is the recurrent
# row of unit 0, and column 0 its input gate, so this is a self weight.
#
# The smoothing looks harmless, but it removes the corner. What happens then to a unit that should
# be zero? Let it have a single weight $w$, let the data prefer 0.3, and let the strength be 0.6.
# The minimum of $\frac12 (w - 0.3)^2 + 0.6\, |w|$ is exactly 0. With $\sqrt{w^2 + 10^{-8}}$ instead
# of $|w|$ the derivative exists everywhere, and at the minimum it is zero,
#
# $$w - 0.3 + 0.6\, \frac{w}{\sqrt{w^2 + 10^{-8}}} = 0 .$$


# %%
def smooth_slope(w):
    return w - 0.3 + 0.6 * w / np.sqrt(w**2 + 1e-8)


low, high = 0.0, 0.3
for _ in range(60):
    middle = (low + high) / 2
    low, high = (middle, high) if smooth_slope(middle) < 0 else (low, middle)
print(f"the smoothed minimum: {high:.2e}")
assert f"{high:.2e}" == "5.77e-05"

# %% tags=["hide-input"]
figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 2.8))
wide, near = np.linspace(-1, 1, 401), np.linspace(-5e-4, 5e-4, 401)
left.plot(wide, np.abs(wide), color=COLOURS[0], label="$|s|$: L1 and group lasso")
left.plot(wide, wide**2 / 2, color=COLOURS[1], label=r"$\frac{1}{2} s^2$: L2")
left.set(title="Along a line through zero: a corner, or none", xlabel="s")
left.legend(frameon=False, loc="upper center")
right.plot(near, np.sign(near), color=COLOURS[0], label="slope of $|s|$")
smooth = near / np.sqrt(near**2 + 1e-8)
right.plot(near, smooth, color=COLOURS[2], label=r"slope of $\sqrt{s^2 + 10^{-8}}$")
right.plot(near, near, color=COLOURS[1], label=r"slope of $\frac{1}{2} s^2$")
right.plot(high, 0.5, "o", color=COLOURS[2])
right.annotate(" the example's minimum", (high, 0.5), va="center", fontsize=8, color="#444444")
right.set(title="The slopes, 2000 times enlarged: a step, or a ramp", xlabel="s")
right.ticklabel_format(axis="x", scilimits=(0, 0))
right.legend(frameon=False, loc="upper left", fontsize=8)
figure.savefig(FIGURES / "2_corner.png")

# %% [markdown]
# So with smoothing the minimum is near zero, at about half of $10^{-4}$, but it is *not* zero: this
# penalty alone makes no unit zero. An additional rounding step is necessary.
#
# ## At zero
#
# Without smoothing, the formula $w / |w|$ is 0 / 0 at a dead unit. A direct implementation, or
# automatic differentiation, gives `nan`, and one `nan` spreads to the whole network in one step.
# There is a better choice. At the corner of a convex function, the slope of *every* line that
# touches the graph from below is a *subgradient*. At zero, every vector $\xi$ with $|\xi| \le 1$ is
# a subgradient of the length, and these form a ball. `penalty` returns its centre, zero.

# %%
dead = {array: values.copy() for array, values in params.items()}
for array, (rows, columns) in groups.ids.items():
    dead[array][(rows[:, None] == 1) | (columns == 1)] = 0  # unit 1 of the lower layer

with np.errstate(invalid="ignore", divide="ignore"):
    naive = gradient_by_hand(dead, 1.0)
not_numbers = sum(int(np.isnan(gradient).sum()) for gradient in naive.values())
value_dead, grads_dead = penalty(dead, groups, 1.0)
print(f"naive formula: {not_numbers} entries are not numbers")
print(f"issref: <w, gradient> = {inner(dead, grads_dead):.4f}, R = {value_dead:.4f}")
assert not_numbers == 28  # 4 columns of 4, two rows of 8, less 4
assert f"{inner(dead, grads_dead):.4f}" == f"{value_dead:.4f}" == "2.1112"

# %% [markdown]
# Zero is a reasonable choice for a gradient, but it has a cost. If $|\nabla F_g| \le \lambda$, the
# subgradient $-\nabla F_g / \lambda$ would balance the loss exactly and keep the unit at zero. But
# `penalty` returns 0, so a *subgradient method*, which subtracts gradient and subgradient, moves by
# $-\eta\, \nabla F_g$. If $\nabla F_g$ is not zero, the unit leaves zero. (In an LSTM it is zero if
# the unit's group, biases and state are all zero; see tutorial 6.)
#
# ## A subgradient method near zero
#
# At any distance from zero, the gradient of the penalty has the full length $\lambda$. With the
# learning rate $\eta$ it moves the group by $\eta \lambda$ in each step; call this a *jump*. Take a
# group for which the minimum of the loss is at zero, too: $F = \frac12 |w|^2$. Then one step is
#
# $$w \leftarrow w - \eta \left( w + \lambda \frac{w}{|w|} \right)
#   = \frac{w}{|w|} \big( (1 - \eta) |w| - \eta \lambda \big).$$
#
# As soon as the bracket is negative, the step jumps over zero. With $r = |w|$ the next length is
# $\eta \lambda - (1 - \eta)\, r$. This map has one fixed point,
#
# $$r^* = \frac{\eta \lambda}{2 - \eta} ,$$
#
# and since each step multiplies the distance from it by $-(1 - \eta)$, the lengths converge to it.
# The method ends in a permanent oscillation between $w$ and $-w$, at a distance from the minimum of
# about half a jump. A smaller learning rate makes the oscillation smaller, but never
# zero.

# %%
w, rate, strength = np.array([0.8, -0.3]), 0.1, 0.5
for _ in range(400):
    w, before = w - rate * (w + strength * w / np.linalg.norm(w)), w
radius = rate * strength / (2 - rate)
print(f"after 400 steps |w| = {np.linalg.norm(w):.6f}, the formula gives {radius:.6f}")
print(f"|w + (w one step before)| = {np.linalg.norm(w + before):.0e}")
assert f"{np.linalg.norm(w):.6f}" == f"{radius:.6f}" == "0.026316"
assert np.linalg.norm(w + before) < 1e-12

# %% [markdown]
# ## A threshold, and what it depends on
#
# In the LSTM language model, the released code takes a subgradient step and then sets every weight
# with an absolute value below $\tau = 10^{-4}$ to zero. We try this on a regression with 10 units
# of 8 weights, of which only 3 units generate the $N$ samples: $Y = X W + \text{noise}$, $F(W) =
# \frac{1}{2 N} |Y - X W|^2$. The groups are the rows of $W$. They do not overlap, so we find the
# exact minimum with the rule above: after each gradient step with learning rate $\eta$ we shorten
# each row by $\eta\lambda$, not by $\lambda$, because the step moves only a fraction $\eta$ of the
# way. (Tutorial 4 derives this step.)

# %%
rng = np.random.default_rng(1)
UNITS, OUTPUTS, SAMPLES, LAMBDA = 10, 8, 100, 0.5
truth = np.zeros((UNITS, OUTPUTS))
truth[:3] = rng.normal(size=(3, OUTPUTS))
X = rng.normal(size=(SAMPLES, UNITS))
Y = X @ truth + 0.3 * rng.normal(size=(SAMPLES, OUTPUTS))
start = rng.normal(0, 0.5, truth.shape)


def slope(W):
    return X.T @ (X @ W - Y) / SAMPLES


def lengths(W):
    return np.sqrt((W**2).sum(axis=1))


def subgradient_method(rate, threshold=0.0):
    W = start
    for _ in range(1500):
        norms = lengths(W)[:, None]
        penalty_grad = np.divide(W, norms, out=np.zeros_like(W), where=norms > 0)
        W = W - rate * (slope(W) + LAMBDA * penalty_grad)
        W = zero_small_weights({"W": W}, threshold)["W"]
    return W


exact = start
for _ in range(1500):
    exact = exact - 0.3 * slope(exact)
    exact = np.array([block_soft_threshold(row, 0.3 * LAMBDA) for row in exact])
needed = lengths(exact) > 0
print("units alive in the exact minimum:", np.flatnonzero(needed))
assert needed.tolist() == [True] * 3 + [False] * 7

RATES = (0.3, 0.1, 0.03)
plain = {rate: lengths(subgradient_method(rate)) for rate in RATES}
for rate, norms in plain.items():
    ends, jump = norms[~needed], rate * LAMBDA
    print(f"rate {rate}: the other seven at {ends.min():.3f} to {ends.max():.3f}, ", end="")
    print(f"one jump is {jump:.3f}")
    assert 0.4 * jump < ends.min() <= ends.max() < 0.8 * jump

# %% [markdown]
# As derived, the seven units that should be zero oscillate at a distance of a little more than half
# a jump, and with a tenth of the learning rate they are ten times as close to zero. Now we apply a
# threshold after each step. How many units end at zero, for which $\tau$?

# %%
thresholds = 10.0 ** np.arange(-5, 0.01, 0.25)


def units_removed(rate, threshold):
    return int((lengths(subgradient_method(rate, threshold)) == 0).sum())


removed = {rate: [units_removed(rate, tau) for tau in thresholds] for rate in RATES}
first = {rate: thresholds[np.argmax(np.array(removed[rate]) >= 7)] for rate in RATES}
for rate in RATES:
    print(f"rate {rate}: {removed[rate][4]} units at zero with a threshold of 1e-4, ", end="")
    print(f"seven from about {first[rate]:.0e} on")
assert [removed[rate][4] for rate in RATES] == [0, 0, 0]
assert first[0.3] > 1.5 * first[0.1] > 3 * first[0.03]
assert all(removed[rate][-1] == 10 for rate in RATES)

# %% tags=["hide-input"]
figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.0))
along = np.geomspace(0.02, 0.45, 50)
left.plot(along, along * LAMBDA / (2 - along), color="#777777", linewidth=1, label="$r^*$")
for rate, norms in plain.items():
    left.plot([rate] * 3, norms[needed], "o", color=COLOURS[0])
    left.plot([rate] * 7, norms[~needed], "o", color=COLOURS[1], alpha=0.6)
left.plot([], [], "o", color=COLOURS[0], label="unit in the data")
left.plot([], [], "o", color=COLOURS[1], label="unit that should be zero")
left.set(xscale="log", yscale="log", xlabel=r"learning rate $\eta$", ylabel="$|w_g|$ at the end")
left.set_xticks(RATES, RATES)
left.minorticks_off()
left.set_title("Without a threshold: never zero")
left.legend(frameon=False, fontsize=8, loc=(0.02, 0.45))
for rate, colour in zip(RATES, COLOURS[2:], strict=False):
    right.plot(thresholds, removed[rate], ".-", color=colour, label=rf"$\eta$ = {rate}")
right.axhline(7, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)))
right.text(1e-5, 7.1, "exact minimum: 7", va="bottom", color="#555555")
right.set(xscale="log", xlabel=r"threshold $\tau$", ylabel="units at zero, of 10")
right.set_title(r"The smallest $\tau$ that works depends on $\eta$")
right.legend(frameon=False, loc="center left")
figure.savefig(FIGURES / "2_threshold.png")

# %% [markdown]
# Too small a threshold removes nothing, too large a one removes units that are needed. Between them
# is a range that is right, and its lower end depends on the learning rate: $\tau$ has to be larger
# than the change of a *single weight* in one jump, about $\eta\lambda / \sqrt{n}$ for a group of
# $n$ weights. (For smaller $\tau$ a unit may become zero and leave zero again a few steps later, so
# the number at zero changes from step to step, and the figure shows the last step. This is why the
# line of $\eta = 0.1$ rises to 1 and falls to 0.)
#
# This explains why $10^{-4}$ works for the authors and has no effect here. With their learning rate
# 1, $\lambda = 0.00245$ and groups of 23,996 weights, a jump changes a weight by 0.0000158, less
# than their threshold. Here $\lambda$ is 0.5 and a group has 8 weights, so a jump changes a weight
# by 0.005 to 0.053. So the threshold is one more number to tune, and it depends on the learning
# rate, the strength and the size of the network. Tutorial 4 replaces the subgradient by a step that
# needs no threshold.

# %%
in_a_weight = 0.00245 / np.sqrt(23996)
print(f"one jump of the paper's training, in a single weight: {in_a_weight:.7f}")
assert f"{in_a_weight:.7f}" == "0.0000158"
here = [f"{rate * LAMBDA / np.sqrt(OUTPUTS):.3f}" for rate in (0.03, 0.3)]
print(f"and of ours, with the learning rates 0.03 and 0.3: {' and '.join(here)}")
assert here == ["0.005", "0.053"]

# %% [markdown]
# ## Exercise
#
# The paper's network has an embedding of 1500, two layers of 1500 units and 10,000 words. Training
# starts with all weights uniform between $-0.04$ and $0.04$, $\lambda = 0.00245$ and learning rate
# 1, and has 1327 steps in an epoch.
#
# 1. What is the approximate length of a group of each layer at the start? (A uniform number between
#    $-a$ and $a$ has the mean square $a^2 / 3$.) What is the value of the penalty?
# 2. Suppose that each step shortens a group of the lower layer by $\eta \lambda$ and stops at zero,
#    as the proximal step of tutorial 4 does, and that the gradient of the loss never makes it
#    longer. After how many steps is it zero, at the latest?
# 3. Statisticians often give a group of $n$ weights the strength $\lambda \sqrt{n}$. Which layer
#    would then be penalised more strongly, and by what factor?
#
# Try to answer before you read on.
#
# ### Answer
#
# 1. The sizes are 23,996 and 27,996 (tutorial 1: $4 (E + H) + 4 H$, then $4 H$ for the next layer
#    or $V$ for the softmax, less the 4 crossings). A group of $n$ such weights has the length $0.04
#    \sqrt{n / 3}$. The penalty is $\lambda$ times the sum of 3000 such lengths. For comparison, the
#    loss of the untrained network is $35 \log 10{,}000 \approx 322$ for a piece of 35 words.
# 2. After length / $\eta \lambda$ steps: a little more than one epoch. (The other groups can only
#    shorten it further, in the weights that it shares with them.)
# 3. The upper layer, whose groups contain a row of the softmax, by the factor $\sqrt{27996 /
#    23996}$. The paper uses the same $\lambda$ for all groups.

# %%
E, H, WORDS = 1500, 1500, 10_000
sizes = (4 * (E + H) + 4 * H + 4 * H - 4, 4 * (H + H) + 4 * H + WORDS - 4)
at_start = [0.04 * np.sqrt(size / 3) for size in sizes]
whole = 0.00245 * H * sum(at_start)
steps_to_go = at_start[0] / 0.00245
print(f"sizes {sizes}, lengths {at_start[0]:.3f} and {at_start[1]:.3f}")
print(f"penalty {whole:.2f}, compared with a loss of {35 * np.log(10_000):.0f}")
print(f"zero after {steps_to_go:.0f} steps, that is {steps_to_go / 1327:.1f} epochs")
print(f"strengths proportional to sqrt(size): {np.sqrt(sizes[1] / sizes[0]):.2f} times")
assert sizes == (23996, 27996)
assert f"{at_start[0]:.3f}" == "3.577"
assert f"{at_start[1]:.3f}" == "3.864"
assert f"{whole:.2f}" == "27.35"
assert f"{35 * np.log(10_000):.0f}" == "322"
assert f"{steps_to_go:.0f}" == "1460"
assert f"{steps_to_go / 1327:.1f}" == "1.1"
assert f"{np.sqrt(sizes[1] / sizes[0]):.2f}" == "1.08"

# Check the formula for the length of a group on a network ten times narrower.
narrow = ptb_lstm.Config(vocabulary=1000, embed_size=150, hidden_sizes=(150, 150), init_scale=0.04)
narrow_layout = ptb_lstm.layout(narrow)
weights = ptb_lstm.init_params(narrow, narrow_layout, np.random.default_rng(0))
measured = group_norms(weights, iss_groups(narrow_layout, ["lstm0"])).mean()
expected = 0.04 * np.sqrt((4 * 300 + 4 * 150 + 4 * 150 - 4) / 3)
print(f"ten times narrower: length {measured:.2f} measured, {expected:.2f} expected")
assert f"{measured:.2f}" == f"{expected:.2f}" == "1.13"

# %% [markdown]
# ## What to take away
#
# - The length of a vector, not squared, has a corner at zero. The corner keeps the whole vector at
#   zero as long as the gradient of the loss is shorter than $\lambda$. L1 has one condition for
#   each weight; L2 keeps nothing at zero.
# - The gradient is $\lambda w\, (1/|\text{row group}| + 1/|\text{column group}|)$, with one term
#   for a weight with which a unit reads itself. $\langle w, \nabla R \rangle = R$ tests it.
# - The authors count the self weights twice and smooth the root: `self_weight=2, smoothing=1e-8`.
# - A subgradient method oscillates around zero at a distance of half a jump, so it needs a
#   threshold, and the threshold depends on the learning rate, the strength and the size of the
#   network.
#
# ## Where to go next
#
# - [Tutorial 3](3_backward_by_hand.py) derives the gradient of the loss, through time.
# - `issref/iss/penalty.py` implements the penalty in about 50 lines.
