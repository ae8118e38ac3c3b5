# %% [markdown]
# # 4. Proximal steps
#
# To learn which units of an LSTM can go, we add a penalty to the loss that pulls whole units
# towards zero: the *group lasso*. For each unit $g$, collect all weights that belong to it (its
# four gate columns, its recurrent row, the rows that read it) in one long vector $w_g$, the *group*
# of the unit, and minimise
#
# $$F(w) + \lambda \sum_g |w_g|,$$
#
# where $w$ holds all weights, $F$ is the loss on the data, $|\cdot|$ is the Euclidean norm (not
# squared), and $\lambda \ge 0$ is the *strength* of the penalty. These groups are the Intrinsic
# Sparse Structures of Wen et al. (ICLR 2018, arXiv 1709.05027). The minimum has units that are
# *exactly* zero, and those can be cut out of the network without changing its outputs.
#
# This tutorial is about the step that gets there. **You will learn**
#
# 1. why gradient steps never reach zero, and a *proximal* step does;
# 2. why one group at a time is wrong for ISS, whose groups overlap;
# 3. how the proximal step is computed exactly, with one number for each pair of groups;
# 4. how its answer proves its own accuracy, and what happens in the hard cases;
# 5. what it does to a small LSTM in training.
#
# **You need** [tutorial 2](2_the_penalty.py), for the penalty, and backpropagation. Everything else
# is derived here. It takes 20 minutes to read and less than a minute to run. Every number in the
# text is computed below, and an `assert` next to it checks it.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from issref import (
    Layout,
    alive,
    block_soft_threshold,
    compact,
    group_norms,
    iss_groups,
    penalty,
    prox,
    zero_small_weights,
)
from issref.models import ptb_lstm
from issref.report import COLOURS, STYLE

plt.rcParams.update(STYLE | {"figure.dpi": 110, "savefig.dpi": 160})
FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
# ## One group, and a gradient that never arrives
#
# Start with one group $w$ of two weights and the simplest loss, $F(w) = \frac12 |w - v|^2$: the
# data would like $w$ to be $v = (0.3, 0.4)$, of norm 0.5. With $\lambda = 0.6$ the minimum of
# $\frac12 |w - v|^2 + \lambda |w|$ is at $w = 0$: near zero the penalty rises with slope 0.6 in
# every direction, and the loss falls with slope 0.5 at most.
#
# The norm has the gradient $w / |w|$ everywhere but at 0, where it has a corner. At a corner of a
# convex function one may take any *subgradient*, the slope of any line that touches the function
# from below; at 0 the usual choice is 0. Subgradient descent with the learning rate $\eta$ is then
#
# $$w \leftarrow w - \eta \, \big( (w - v) + \lambda\, w / |w| \big).$$
#
# However close $w$ is to zero, the pull $\lambda w / |w|$ has the length $\lambda$. So the last
# step never lands on zero: it leaps over it, and the next one leaps back.

# %%
v = np.array([0.3, 0.4])
strength, rate = 0.6, 0.1


def subgradient_step(w, rate):
    norm = np.linalg.norm(w)
    return w - rate * ((w - v) + (strength * w / norm if norm > 0 else 0))


def proximal_step(w, rate):
    return block_soft_threshold(w - rate * (w - v), rate * strength)  # explained below


def norms_along(step, rates):
    w, norms = np.array([0.8, -0.3]), []
    for one_rate in rates:
        w = step(w, one_rate)
        norms.append(np.linalg.norm(w))
    return np.array(norms)


constant = np.full(150, rate)
shrinking = 3 * rate / np.sqrt(1 + np.arange(150))
paths = {
    "subgradient, constant rate": norms_along(subgradient_step, constant),
    "subgradient, rate shrinking as 1 / sqrt(step)": norms_along(subgradient_step, shrinking),
    "proximal, constant rate": norms_along(proximal_step, constant),
}
for name, norms in paths.items():
    print(f"{name:46} |w| after 150 steps: {norms[-1]:.4f}")
steps_to_zero = int(np.argmax(paths["proximal, constant rate"] == 0)) + 1
print(f"the proximal step is at exactly 0 after {steps_to_zero} steps")
assert all(np.all(norms > 0) for name, norms in paths.items() if "subgradient" in name)
assert np.all(paths["proximal, constant rate"][steps_to_zero - 1 :] == 0)
assert steps_to_zero == 18

# %%
figure, axes = plt.subplots(figsize=(7.5, 3.0))
for (name, norms), colour in zip(paths.items(), (COLOURS[1], "#8C8C8C", COLOURS[0]), strict=True):
    width = 2.2 if "proximal" in name else 1.2
    axes.plot(np.arange(1, 151), norms, color=colour, label=name, linewidth=width)
axes.annotate(
    f"exactly 0 from step {steps_to_zero} on",
    (steps_to_zero, 0),
    xytext=(10, 80),
    textcoords="offset points",
    color=COLOURS[0],
    arrowprops={"arrowstyle": "-", "color": COLOURS[0], "linewidth": 0.8},
)
axes.set(xlabel="step", ylabel="|w|", xlim=(0, 150), ylim=(-0.01, 0.5))
axes.set_title("One group that should be zero")
axes.legend(frameon=False, loc="upper right")
figure.savefig(FIGURES / "4_one_group.png")

# %% [markdown]
# A smaller learning rate makes the leaps smaller, but zero is never reached. To get exact zeros
# from such a method one has to round: the code released with the paper sets every weight below a
# threshold to zero after each step, and the threshold is one more number to tune.
#
# ## The proximal step
#
# A gradient step has another reading. Near the current weights $w_0$, replace the loss by its
# linear approximation plus a term that keeps the step short, and minimise:
#
# $$\min_w \; F(w_0) + \langle \nabla F(w_0), w - w_0 \rangle + \frac{1}{2 \eta} |w - w_0|^2 .$$
#
# The minimum is the gradient step $v = w_0 - \eta \nabla F(w_0)$. A *proximal* gradient step keeps
# the penalty in this little problem, as it is, without approximating it. Completing the square and
# multiplying by $\eta$, the new weights are
#
# $$\mathrm{prox}(v) = \arg\min_w \; \frac12 |w - v|^2 + \sum_g \lambda_g |w_g|,
#   \qquad v = w_0 - \eta \nabla F(w_0), \quad \lambda_g = \eta \lambda .$$
#
# This is the *proximal operator* of the penalty. The norms are convex, and the square is a bowl,
# curved upward in every direction (the sum is *strongly convex*), so there is exactly one minimum.
# From here on $\lambda_g$ stands for the strength in this problem: learning rate times penalty
# strength. (The example above uses it already: `rate * strength`.)
#
# ### One group in closed form
#
# The norm is the largest inner product with a vector $\xi$ (xi) in the ball of radius $\lambda$:
# $\lambda |w| = \max_{|\xi| \le \lambda} \langle \xi, w \rangle$. Put this into the problem, and
# exchange minimum and maximum (allowed, as the problem is convex in $w$, linear in $\xi$, and the
# ball is closed and bounded; that is a theorem, but in a moment we can see it for ourselves):
#
# $$\min_w \frac12 |w - v|^2 + \lambda |w|
#   \;=\; \max_{|\xi| \le \lambda} \; \min_w \; \frac12 |w - v|^2 + \langle \xi, w \rangle
#   \;=\; \max_{|\xi| \le \lambda} \; \frac12 |v|^2 - \frac12 |v - \xi|^2 .$$
#
# The inner minimum is at $w = v - \xi$. What remains, the *dual problem*, asks for the point $\xi$
# of the ball that is nearest to $v$. That is a projection: $\xi = v \min(1, \lambda / |v|)$. Hence
#
# $$w = v - \xi = v \, \max\!\Big(0,\; 1 - \frac{\lambda}{|v|}\Big).$$
#
# Was the exchange right? Without any theorem, the maximum of minima on the right is never above the
# minimum of maxima on the left: no $\xi$ makes the inner minimum larger than the left side. Now
# insert this pair of $w$ and $\xi$: both sides are $\lambda |v| - \frac12 \lambda^2$ if $|v|$ is
# longer than $\lambda$, and $\frac12 |v|^2$ if not. Where the two meet, neither can be improved.
#
# This is *block soft-thresholding*: the group keeps its direction and loses $\lambda$ of its
# length; if it is not longer than $\lambda$, it becomes exactly zero. That $v$ is the sum of its
# proximal point and its projection on the dual ball is known as Moreau's decomposition.
#
# Typed in naively, the formula has a trap: at $v = 0$ with $\lambda = 0$ it divides 0 by 0,
# although the answer is clear (a strength of 0 changes nothing). Dead groups and a switched-off
# penalty do meet in practice.

# %%
with np.errstate(invalid="ignore"):
    naive = np.zeros(2) * np.maximum(0, 1 - np.float64(0) / np.linalg.norm(np.zeros(2)))
print("naive formula at v = 0, strength 0:", naive)
print("block_soft_threshold:              ", block_soft_threshold(np.zeros(2), 0.0))
print("v of length 0.5, strength 0.2:     ", block_soft_threshold(v, 0.2))
assert np.isnan(naive).all()
assert np.all(block_soft_threshold(np.zeros(2), 0.0) == 0)
assert np.allclose(block_soft_threshold(v, 0.2), v * 0.6)
assert np.all(block_soft_threshold(v, np.linalg.norm(v)) == 0)

# %% [markdown]
# ## Groups that overlap
#
# If the groups shared no weights, we would threshold each alone and be done. ISS groups do share:
# the recurrent weight from unit $j$ to unit $k$ of a layer lies on the recurrent row of $j$ and in
# a gate column of $k$; the weight from a lower unit to an upper one lies on a reader row of the
# former and in a gate column of the latter. Every weight lies in at most two groups, that of its
# row and that of its column.
#
# As an example, take a network of two layers with 4 units each, an embedding of size 3 and 7 words.
# We scale the weights of the 8 units differently, so that some are more important than others.
# `groups.ids[array]` holds the group number of each row and of each column of an array, and -1 for
# a row or column that is in no group; as an index, -1 picks the last entry, so that `scales` ends
# with a 1 for "no group".

# %%
layout = ptb_lstm.layout(ptb_lstm.Config(vocabulary=7, embed_size=3, hidden_sizes=(4, 4)))
groups = iss_groups(layout, ["lstm0", "lstm1"])
G = groups.count

rng = np.random.default_rng(1)
scales = np.array([1.20, 0.81, 0.56, 0.30, 1.07, 0.94, 0.69, 0.43, 1.0])
V = {array: rng.uniform(-0.5, 0.5, layout.shape(array)) for array in layout.axes}
for array, (rows, columns) in groups.ids.items():
    V[array] = V[array] * scales[rows][:, None] * scales[columns]

print("group norms:", group_norms(V, groups).round(2))
assert G == 8


def objective(W, strength):
    """1/2 |w - v|^2 + strength * sum of group norms: what the proximal operator minimises."""
    moved = sum(((W[array] - V[array]) ** 2).sum() for array in V)
    return moved / 2 + strength * group_norms(W, groups).sum()


# %% [markdown]
# What happens if we threshold one group after another, each in the weights that the last one left?
# We try it in two orders. We also try to apply all 8 factors $1 - \lambda / |v_g|$ at once, so that
# a shared weight is multiplied by both of its factors. `prox` is the exact answer; how it is
# computed is what the rest of this tutorial explains.


# %%
def factor(norm, strength):
    return 1 - strength / norm if norm > strength else 0.0


def one_after_another(strength, order):
    W = {array: values.copy() for array, values in V.items()}
    for g in order:
        shrink = factor(group_norms(W, groups)[g], strength)
        for array, (rows, columns) in groups.ids.items():
            W[array][(rows[:, None] == g) | (columns == g)] *= shrink
    return W


def all_at_once(strength):
    shrink = np.array([factor(norm, strength) for norm in group_norms(V, groups)] + [1.0])
    W = dict(V)
    for array, (rows, columns) in groups.ids.items():
        pair = shrink[rows][:, None] * shrink[columns]
        own = rows[:, None] == columns  # a weight of a unit with itself is in its group once
        W[array] = V[array] * np.where(own, shrink[rows][:, None], pair)
    return W


STRENGTH = 0.7
exact, certificate = prox(V, groups, STRENGTH)
answers = {
    "exact": exact,
    "one after another, 0 to 7": one_after_another(STRENGTH, range(8)),
    "one after another, 7 to 0": one_after_another(STRENGTH, range(7, -1, -1)),
    "all factors at once": all_at_once(STRENGTH),
}
objectives = {}
for name, W in answers.items():
    zeros = int((group_norms(W, groups) == 0).sum())
    objectives[name] = objective(W, STRENGTH)
    print(f"{name:26} objective {objectives[name]:.4f}   groups at zero: {zeros}")
assert f"{objectives['exact']:.4f}" == "4.6977"
assert f"{objectives['one after another, 0 to 7']:.4f}" == "4.7402"
assert f"{objectives['one after another, 7 to 0']:.4f}" == "4.7273"
assert f"{objectives['all factors at once']:.4f}" == "4.7410"

# %% [markdown]
# Both orders end above the minimum, and at different places; so does the product. One of them even
# kills a unit that the exact step keeps. None of these is the proximal operator. (The differences
# look small, but they would be made again at every step of a training run, and they depend on how
# we happen to number the units.)
#
# ## The dual, with one copy for each group
#
# We repeat the derivation for one group, with one vector $\xi_g$ for each group $g$. It has an
# entry for each weight of the group, with $|\xi_g| \le \lambda_g$; a weight in two groups has an
# entry in both vectors, two copies. Everything goes through as before:
#
# $$w = v - \sum_g \xi_g, \qquad \max_{|\xi_g| \le \lambda_g \text{ for all } g} \;
#   \frac12 |v|^2 - \frac12 \Big| v - \sum_g \xi_g \Big|^2 .$$
#
# There is no closed form now, but if all $\xi$ except one are held fixed, the best $\xi_g$ is again
# a projection: with $u$ the part of $v - \sum_{h \ne g} \xi_h$ on the weights of group $g$,
#
# $$\xi_g = u \, \min(1, \lambda_g / |u|).$$
#
# Going round and round over the groups with this update is *block coordinate ascent*; one round is
# a *sweep*. It converges to the maximum, because the dual is smooth and each ball is a block of its
# own.
#
# ### One number for each pair
#
# As it stands, the iteration would touch every weight in each sweep. But look at what the update
# does to the weights that lie in the groups $g$ and $h$, and no others. Start with all $\xi = 0$.
# On these weights $u = v - \xi_h$; if $\xi_h$ is a multiple of $v$ there, so is $u$, and so is the
# new $\xi_g$, which is $u$ times a number. By induction both copies stay multiples of $v$ for ever:
#
# $$\xi_g = B_{gh}\, v \;\text{ and }\; \xi_h = B_{hg}\, v
#   \;\text{ on the weights of } g \text{ and } h,
#   \qquad \xi_g = A_g\, v \;\text{ on the weights of } g \text{ alone.}$$
#
# The number $B_{gh}$ is the share of $v$ that group $g$ takes away from the weights it has in
# common with $h$. To compute $|u|$ we need only the *energies*
#
# - $a_g$, the sum of $v^2$ over the weights in $g$ alone,
# - $S_{gh}$, the sum of $v^2$ over the weights in both $g$ and $h$ (so $S_{gh} = S_{hg}$,
#   $S_{gg} = 0$),
#
# and the update of group $g$ is, on numbers alone,
#
# $$|u|^2 = a_g + \sum_h S_{gh} (1 - B_{hg})^2, \quad s = \min(1, \lambda_g / |u|), \quad
#   A_g = s, \quad B_{gh} = s\, (1 - B_{hg}).$$
#
# However many weights there are, one sweep costs $G^2$ operations for $G$ groups. The weights are
# read once, to add up the energies, and scaled once at the end: by $1 - B_{gh} - B_{hg}$, or by
# $1 - A_g$.
#
# First the energies. `table[g, h]` collects $v^2$ over the weights with row in $g$ and column in
# $h$.

# %%
table = np.zeros((G + 1, G + 1))  # the last row and column: "no group"
for array, (rows, columns) in groups.ids.items():
    np.add.at(table, (rows[:, None], columns), V[array] ** 2)

own = table[:G, G] + table[G, :G] + table.diagonal()[:G]  # a_g
shared = (table + table.T)[:G, :G]  # S
np.fill_diagonal(shared, 0)
assert np.allclose(np.sqrt(own + shared.sum(axis=1)), group_norms(V, groups))

# %% [markdown]
# Now the iteration: this is the whole method.


# %%
def sweep(A, B, strength):
    """One round of exact maximisation of the dual, one group after the other; changes A and B."""
    for g in range(G):
        left = 1 - B[:, g]  # what the others leave of v on the shared weights
        rho = np.sqrt(own[g] + shared[g] @ left**2)
        s = min(1.0, strength / rho)
        A[g], B[g] = s, s * left


A, B = np.zeros(G), np.zeros((G, G))
for _ in range(40):
    sweep(A, B, STRENGTH)

# %% [markdown]
# The weights come back in one pass. A weight is scaled by `keep[row group, column group]`.


# %%
def weights_from(A, B):
    keep = np.ones((G + 1, G + 1))
    keep[:G, :G] = 1 - B - B.T
    keep[:G, G] = keep[G, :G] = 1 - A
    np.fill_diagonal(keep[:G, :G], 1 - A)  # a unit with itself: its group alone
    W = dict(V)
    for array, (rows, columns) in groups.ids.items():
        W[array] = V[array] * keep[np.ix_(rows, columns)]
    return W


by_hand = weights_from(A, B)
by_hand_objective = objective(by_hand, STRENGTH)
apart = np.sqrt(sum(((by_hand[array] - exact[array]) ** 2).sum() for array in V))
print(f"objective by hand {by_hand_objective:.4f}, of issref.prox {objectives['exact']:.4f}")
print(f"distance |w by hand - w of prox|: {apart:.0e}")
assert f"{by_hand_objective:.4f}" == f"{objectives['exact']:.4f}" == "4.6977"

# %% [markdown]
# ## The certificate
#
# How do we know that 40 sweeps were enough, or that `prox` is right? The dual tells. Write $P(w)$
# for the objective and $D(\xi) = \frac12 |v|^2 - \frac12 |v - \sum_g \xi_g|^2$ for the dual
# objective. For every $\xi$ with $|\xi_g| \le \lambda_g$ the value $D(\xi)$ is a lower bound of the
# minimum $P(w^*)$. The difference $P(w) - D(\xi)$ is the *duality gap*: it bounds how far $P(w)$ is
# from the minimum, and we can compute it without knowing the minimum.
#
# Write $z = \sum_g \xi_g$ for short. For $w = v - z$ we have
#
# $$|v|^2 = |w|^2 + 2 \langle w, z \rangle + |z|^2 .$$
#
# Insert this into $P(w) - D(\xi)$; the squares cancel, and what is left is
#
# $$\text{gap} = P(w) - D(\xi) = \sum_g \big( \lambda_g |w_g| - \langle \xi_g, w \rangle \big)
#   \;\ge\; 0 .$$
#
# Each term is at least 0, as $|\xi_g| \le \lambda_g$. If the weights are changed afterwards (we
# shall round some groups to zero), $w$ is no longer $v - \sum_g \xi_g$, and the gap grows by
# $\frac12 |w - (v - \sum_g \xi_g)|^2$.
#
# The gap also bounds the distance. $P$ contains $\frac12 |w - v|^2$ and is therefore *strongly
# convex*: $P(w) \ge P(w^*) + \frac12 |w - w^*|^2$. So
# $\frac12 |w - w^*|^2 \le P(w) - P(w^*) \le \text{gap}$:
#
# $$|w - w^*| \le \sqrt{2 \, \text{gap}} .$$
#
# Mind the square root: a gap of $10^{-12}$ promises six digits of $w$, not twelve. On pairs, the
# gap is short to write as well. It must be taken after a full sweep, when all $\xi_g$ have been
# projected into their balls.


# %%
def gap_of(A, B, strength):
    both, alone = 1 - B - B.T, 1 - A
    norms = np.sqrt(own * alone**2 + (shared * both**2).sum(axis=1))
    return (strength * norms - own * A * alone - (shared * B * both).sum(axis=1)).sum()


hand_gap = max(gap_of(A, B, STRENGTH), 0.0)
promised = np.sqrt(2 * hand_gap) + np.sqrt(2 * certificate.gap)
print(f"gap by hand {hand_gap:.0e}, of issref.prox {certificate.gap:.0e}")
print(f"distance promised: {promised:.0e}, found: {apart:.0e}")
assert apart <= promised + 1e-14
assert certificate.relative_gap <= 1e-12  # the tolerance of prox: gap over objective

# %% [markdown]
# `issref.prox` does what we did by hand, in a compiled loop, and returns the gap with the weights
# in its `Certificate`: anyone can check it. If it cannot reach its tolerance, it warns.
#
# ### Exact zeros
#
# By hand, a group that should be zero comes out as a tiny number. It is a rounding error here;
# after fewer sweeps it would be larger.

# %%
tiny = group_norms(by_hand, groups)
print("norms by hand:", " ".join(f"{norm:.1e}" for norm in tiny))
print("norms of prox:", " ".join(f"{norm:.1e}" for norm in group_norms(exact, groups)))
print("dead:", certificate.dead)
assert certificate.dead.tolist() == (group_norms(exact, groups) == 0).tolist()
assert int(certificate.dead.sum()) == 1

# %% [markdown]
# The certificate also says which of these to round. If $w^*_g = 0$, then
# $|w_g| \le |w - w^*| \le \sqrt{2\,\text{gap}}$. So `prox` sets exactly those groups to zero whose
# norm is below $\sqrt{2\,\text{gap}}$, adds the change to the gap, and still has a proof that the
# result is as accurate as promised. No threshold is tuned: the gap supplies it. (A group that is
# tiny in the exact solution but not zero can be rounded too, if it is too small for the certificate
# to tell: the error is then below the promised one.)
#
# ## How fast, and when not
#
# How many sweeps does it take? We follow the gap for several strengths. The interesting scale is
# the *critical strength*, the smallest one at which all groups die. It has no closed form when
# groups overlap, but there is an upper bound: split each shared weight evenly between its two
# groups, $\xi_g = \frac12 v$ on shared weights and $\xi_g = v$ on the others. Then
# $w = v - \sum_g \xi_g = 0$, and this $\xi$ is allowed as soon as
#
# $$\lambda \ge \max_g \sqrt{a_g + \tfrac14 \textstyle\sum_h S_{gh}} ,$$
#
# and a gap of 0 proves that $w = 0$ is optimal. The critical strength itself we find by bisection.

# %%
sufficient = np.sqrt(own + shared.sum(axis=1) / 4).max()


def everything_dies(strength):
    return bool(prox(V, groups, strength)[1].dead.all())


low, high = 0.0, sufficient
for _ in range(30):
    middle = (low + high) / 2
    low, high = (low, middle) if everything_dies(middle) else (middle, high)
critical = high
print(f"critical strength {critical:.4f}, sufficient strength {sufficient:.4f}")
assert everything_dies(sufficient * (1 + 1e-9))
assert f"{critical:.4f}" == "1.6101"
assert f"{sufficient:.4f}" == "1.8039"


# %%
def gaps_by_sweep(strength, sweeps):
    A, B = np.zeros(G), np.zeros((G, G))
    gaps = []
    for _ in range(sweeps):
        sweep(A, B, strength)
        gaps.append(gap_of(A, B, strength) / objective_on_pairs(A, B, strength))
    return np.array(gaps)


def objective_on_pairs(A, B, strength):
    """P(w) from the energies; each pair stands twice in the table, hence the 1/4."""
    both, alone = 1 - B - B.T, 1 - A
    norms = np.sqrt(own * alone**2 + (shared * both**2).sum(axis=1))
    moved = (own * A**2).sum() / 2 + (shared * (1 - both) ** 2).sum() / 4
    return moved + strength * norms.sum()


FRACTIONS = (0.01, 0.1, 0.3, 0.6, 0.9, 1.0)
SWEEPS = 1000
curves = {fraction: gaps_by_sweep(fraction * critical, SWEEPS) for fraction in FRACTIONS}
needed = {}
for fraction, gaps in curves.items():
    below = gaps <= 1e-12
    needed[fraction] = int(np.argmax(below)) + 1 if below.any() else SWEEPS + 1
    count = f"more than {SWEEPS}" if needed[fraction] > SWEEPS else str(needed[fraction])
    print(f"{fraction:5.0%} of the critical strength: {count} sweeps to a relative gap of 1e-12")
assert needed[0.01] == 3
assert needed[0.1] == 5
assert needed[0.3] == 20
assert 500 < needed[0.6] < 900
assert needed[0.9] > SWEEPS
assert needed[1.0] > SWEEPS

# %%
figure, axes = plt.subplots(figsize=(7.5, 3.4))
shades = plt.get_cmap("viridis")(np.linspace(0.85, 0.0, len(FRACTIONS)))
for (fraction, gaps), shade in zip(curves.items(), shades, strict=True):
    ends = min(needed[fraction], SWEEPS)
    axes.plot(np.arange(1, ends + 1), gaps[:ends], color=shade, label=f"{fraction:.0%}")
    axes.plot(ends, gaps[ends - 1], "o" if ends < SWEEPS else "", color=shade)
axes.axhline(1e-12, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)))
axes.text(30, 6e-13, "tolerance of prox", va="top", color="#555555")
axes.set(xscale="log", yscale="log", xlabel="sweep", ylabel="relative duality gap", ylim=(1e-17, 1))
axes.set_title("Sweeps alone: a few at a small strength, thousands where groups are dying")
legend = {"title": "of the critical\nstrength", "loc": "center left", "bbox_to_anchor": (1, 0.5)}
axes.legend(**legend, frameon=False)
figure.savefig(FIGURES / "4_convergence.png")

# %% [markdown]
# In training the strength of one step is the learning rate times $\lambda$, usually a percent or
# less of the group norms. There a handful of sweeps is enough. But where groups are about to die,
# the sweeps crawl.
#
# ### The hard cases: Newton's method with a barrier
#
# After 64 sweeps `prox` therefore changes its method. It uses another way to write a norm:
#
# $$\lambda |w| = \min_{\tau > 0} \; \frac12 \left( \frac{|w|^2}{\tau} + \lambda^2 \tau \right),
#   \qquad \text{with the minimum at } \tau = |w| / \lambda .$$
#
# Give each group its own $\tau_g$. For given $\tau$ the whole problem is quadratic in $w$, and each
# weight can be minimised by itself. For a weight in $g$ and $h$, with $a = \tau_g$ and
# $b = \tau_h$,
#
# $$\min_w \; \frac12 (w - v)^2 + \frac12 w^2 \Big( \frac1a + \frac1b \Big)
#   = \frac12 v^2 \, \frac{a + b}{ab + a + b}
#   \qquad \text{at} \qquad w = v \, \frac{ab}{ab + a + b} .$$
#
# For a weight in $g$ alone let $b \to \infty$: it becomes $\frac12 v^2 / (1 + a)$. What is left is
# a convex problem in one number for each group:
#
# $$\min_{\tau > 0} \; R(\tau) = \frac12 \sum_{\text{pairs } g < h} S_{gh}
#   \frac{\tau_g + \tau_h}{\tau_g \tau_h + \tau_g + \tau_h}
#   + \frac12 \sum_g \frac{a_g}{1 + \tau_g} + \frac12 \sum_g \lambda_g^2 \tau_g .$$
#
# A dying group is one whose $\tau_g$ goes to the boundary, 0. Newton's method must not cross that
# boundary, so one adds a *barrier* $-\mu \sum_g \log \tau_g$, which is infinitely high at 0, solves
# the problem for some $\mu > 0$, and then for smaller and smaller $\mu$, each time from the last
# solution. That is an *interior-point method*. Each Newton step solves a linear system of $G$
# equations. Each $\tau$ also gives $\xi_g = w_g / \tau_g$ (scaled back into its ball where
# necessary), hence a gap; the certificate is the same as before.
#
# We check the reduction: at a strength where all groups live, $R$ at $\tau_g = |w_g| / \lambda_g$
# is the objective of the exact weights, and $R$ is larger around it.


# %%
def reduced(tau, strength):
    """R(tau); each pair stands twice in S, hence 1/4."""
    a, b = tau[:, None], tau[None, :]
    pairs = (shared * (a + b) / (a * b + a + b)).sum() / 4
    return pairs + (own / (1 + tau)).sum() / 2 + (strength**2 * tau).sum() / 2


easy = 0.3 * critical
easy_weights, _ = prox(V, groups, easy)
tau = group_norms(easy_weights, groups) / easy
print(f"R at tau: {reduced(tau, easy):.6f}, objective: {objective(easy_weights, easy):.6f}")
assert abs(reduced(tau, easy) - objective(easy_weights, easy)) < 1e-10
for _ in range(100):
    assert reduced(tau * np.exp(rng.normal(0, 0.1, G)), easy) > reduced(tau, easy)

# %% [markdown]
# And we check the answers in the hard cases, trusting nothing. `certificate.warm_start` holds the
# shares $B$ (and $A$, in the last column) that go with the weights. We verify that every $\xi_g$ is
# in its ball, and compute the gap as plainly as possible: objective of the weights minus dual
# objective. As a further check we run our own sweeps, 1000 of them, and compare.


# %%
def dual_objective(A, B):
    """1/2 |v|^2 - 1/2 |v - sum of xi|^2, from the energies."""
    both, alone = 1 - B - B.T, 1 - A
    return (own * (1 - alone**2)).sum() / 2 + (shared * (1 - both**2)).sum() / 4


print("strength    rounds   gap / objective   dead   distance to own sweeps")
rounds = {}
for fraction in (0.1, 0.6, 0.9, 1.0):
    strength = fraction * critical
    W, certificate = prox(V, groups, strength)
    A, B = certificate.warm_start[:G, G], certificate.warm_start[:G, :G]
    lengths = np.sqrt(own * A**2 + (shared * B**2).sum(axis=1))  # |xi_g|
    assert np.all(lengths <= strength * (1 + 1e-12))
    gap = objective(W, strength) - dual_objective(A, B)
    relative = max(gap, 0) / objective(W, strength)
    assert relative < 2e-12

    A, B = np.zeros(G), np.zeros((G, G))
    for _ in range(1000):
        sweep(A, B, strength)
    swept = weights_from(A, B)
    apart = np.sqrt(sum(((swept[array] - W[array]) ** 2).sum() for array in V))
    accuracy = np.sqrt(2 * max(gap_of(A, B, strength), 0)) + np.sqrt(2 * certificate.gap)
    assert apart <= accuracy + 1e-12
    rounds[fraction] = certificate.sweeps
    dead = int(certificate.dead.sum())
    numbers = f"{rounds[fraction]:12}       {relative:.0e} {dead:10}          {apart:.0e}"
    print(f"{fraction:4.0%} {numbers}")
assert rounds[0.1] == 5
assert all(64 < rounds[fraction] < 164 for fraction in (0.6, 0.9, 1.0))

# %% [markdown]
# `certificate.sweeps` counts sweeps and Newton steps together: anything over 64 means that Newton's
# method was called. At 90% and at 100%, a hundred rounds settle what a thousand sweeps could not.
#
# ## The path: units die one by one
#
# How do the groups die as the strength grows? We follow the exact solution from strength 0, where
# $w = v$, to a little beyond the sufficient strength.

# %%
path = np.linspace(0, 1.04 * sufficient, 161)
steps = [prox(V, groups, strength) for strength in path]
norms = np.array([group_norms(W, groups) for W, _ in steps])
died = np.array([certificate.dead for _, certificate in steps])
death = path[died.argmax(axis=0)]  # the first strength on the path at which a group is zero
order = np.argsort(death)
print("dies first to last:", order.tolist(), "at strengths", death[order].round(2).tolist())
assert np.all(died[1:] >= died[:-1])  # here, nobody comes back
assert norms[0].tolist() == group_norms(V, groups).tolist()
assert np.all(norms[path >= sufficient] == 0)
assert np.all((norms == 0) == died)
assert np.argsort(norms[0]).tolist() == [3, 7, 2, 6, 1, 5, 4, 0]
assert order.tolist() == [3, 7, 6, 2, 1, 5, 4, 0]

# %%
figure, axes = plt.subplots(figsize=(7.5, 3.8))
for g in range(G):
    lower = g < 4
    colour, style = (COLOURS[0], "-") if lower else (COLOURS[1], (0, (5, 1.5)))
    label = {0: "lower layer", 4: "upper layer"}.get(g)
    shown = died[:, g].argmax() + 1
    line = {"color": colour, "linestyle": style, "linewidth": 1.3, "label": label}
    axes.plot(path[:shown], norms[:shown, g], **line)
    axes.plot(death[g], 0, "o", color=colour, clip_on=False, zorder=3)
for place, name in ((critical, "critical"), (sufficient, "sufficient")):
    axes.axvline(place, ymax=0.62, color="#777777", linewidth=0.9, linestyle=(0, (2, 2)))
    axes.text(place, 1.55, name, ha="center", color="#555555")
axes.set(xlabel="strength", ylabel="group norm $|w_g|$", ylim=(0, None), xlim=(0, path[-1]))
axes.set_title("The exact proximal point of eight units: a dot where a unit dies")
axes.legend(frameon=False)
figure.savefig(FIGURES / "4_path.png")

# %% [markdown]
# The units die almost in the order of their norms at the start. Not quite: unit 6 is longer than
# unit 2 at first, but the curves cross and it dies before. Many curves meet the axis at a flat
# angle: just below the strength of its death, the norm of a unit is tiny but not zero. No fixed
# threshold could tell the two apart; the certificate can.
#
# ## In training
#
# Finally, a whole network. The text is a made-up language of six words: after word $i$ comes
# $i + 1$ in nine cases of ten and $i + 2$ otherwise (counting modulo 6). No model can have a lower
# loss than the entropy of that choice, 0.325 nats for each word (a *nat* is the unit of losses in
# natural logarithms). Two layers of 8 units are more than such a language needs. We train a dense
# network for 200 steps, and from there go on for 500 steps in two ways, with the same penalty, the
# same learning rate and the same batches:
#
# - *subgradient*: add the gradient of the penalty to that of the loss, as the released code does;
# - *proximal*: a plain gradient step on the loss, then `prox` with strength $\eta \lambda$.

# %%
rng = np.random.default_rng(0)
words = (np.cumsum(np.where(rng.random(4000) < 0.9, 1, 2)) % 6).reshape(16, 250).T  # (time, batch)
WINDOW, RATE, LAMBDA = 12, 0.2, 0.4

config = ptb_lstm.Config(vocabulary=6, embed_size=4, hidden_sizes=(8, 8), init_scale=0.3)
layout = ptb_lstm.layout(config)
groups = iss_groups(layout, ["lstm0", "lstm1"])
no_state = ptb_lstm.state_layout(layout, 16).allocate()


def train(params, method, steps):
    """The trained weights, and for each step the loss of a word and the norms of the groups."""
    state, start, shares = no_state, 0, None
    losses, norms = [], []
    for _ in range(steps):
        if start + WINDOW + 1 > len(words):
            state, start = no_state, 0
        inputs, targets = words[start : start + WINDOW], words[start + 1 : start + WINDOW + 1]
        (loss, state), backward = ptb_lstm.loss(params, state, tokens=inputs, targets=targets)
        grads, _ = backward(1.0)
        start += WINDOW
        if method == "subgradient":
            _, pull = penalty(params, groups, LAMBDA)
            grads = {array: grads[array] + pull.get(array, 0) for array in grads}
        params = {array: params[array] - RATE * grads[array] for array in params}
        if method == "proximal":
            params, certificate = prox(params, groups, RATE * LAMBDA, warm_start=shares)
            shares = certificate.warm_start
        losses.append(loss / WINDOW)
        norms.append(group_norms(params, groups))
    return params, np.array(losses), np.array(norms)


entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
print(f"entropy of the next word: {entropy:.3f} nats")
assert f"{entropy:.3f}" == "0.325"

initial = ptb_lstm.init_params(config, layout, np.random.default_rng(1))
dense, _, _ = train(initial, "dense", 200)
runs = {method: train(dense, method, 500) for method in ("subgradient", "proximal")}

for method, (_, losses, norms) in runs.items():
    zeros = int((norms[-1] == 0).sum())
    mean_loss = losses[-100:].mean()
    print(f"{method:12} {zeros:2} of 16 units at zero, loss of the last 100 steps {mean_loss:.2f}")
    assert f"{mean_loss:.2f}" == "0.44"
ends = {method: norms[-1] for method, (_, _, norms) in runs.items()}
assert int((ends["subgradient"] == 0).sum()) == 0
assert int((ends["proximal"] == 0).sum()) == 11

# %% [markdown]
# The two runs agree on which units matter, and reach nearly the same loss. But the subgradient has
# brought no unit to zero: those that should be zero hover at a norm of about one leap,
# $\eta \lambda = 0.08$. (In tutorial 2 it was half a leap. Here groups overlap: the weights left in
# such a unit are those it shares with other such units. Both units pull at them, so that one step
# takes off two leaps, 0.16.) The released code's threshold of 0.0001 for a weight does not remove
# them at this learning rate either.

# %%
should_be_zero = ends["proximal"] == 0
hovering = ends["subgradient"][should_be_zero]
rounded = zero_small_weights(runs["subgradient"][0], 0.0001)
removable = int((group_norms(rounded, groups) == 0).sum())
_, pull = penalty(runs["subgradient"][0], groups, LAMBDA)
taken_off = RATE * group_norms(pull, groups)[should_be_zero]
print(f"hovering between {hovering.min():.2f} and {hovering.max():.2f}; leap {RATE * LAMBDA:.2f}")
print(f"one step takes off {taken_off.min():.2f} to {taken_off.max():.2f}")
print(f"smallest unit that lives: {ends['proximal'][~should_be_zero].min():.1f}")
print(f"units at zero after the threshold: {removable}")
assert np.all((hovering > 0.07) & (hovering < 0.10))
assert np.allclose(taken_off, 2 * RATE * LAMBDA, rtol=0.02)
assert ends["subgradient"][~should_be_zero].min() > 1
assert removable == 0

# %%
figure, panels = plt.subplots(1, 2, figsize=(8.6, 3.3), sharey=True)
for axes, (method, (_, _, norms)) in zip(panels, runs.items(), strict=True):
    for g in range(16):
        lives = norms[:, g] > 0
        colour = COLOURS[1] if should_be_zero[g] else COLOURS[0]
        axes.plot(np.where(lives, norms[:, g], np.nan), color=colour, linewidth=1)
    axes.axhline(RATE * LAMBDA, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set(yscale="log", xlabel="step", xlim=(0, 500))
    axes.set_title(f"{method}: {int((norms[-1] == 0).sum())} of 16 units at zero")
for colour, label in ((COLOURS[0], "lives to the end"), (COLOURS[1], "zero in the proximal run")):
    panels[1].plot([], [], color=colour, label=label)
panels[1].legend(frameon=False, loc="lower right", title="units, in both panels")
panels[0].set_ylabel("group norm $|w_g|$")
panels[0].text(495, 0.11, r"leap $\eta \lambda$", ha="right", va="bottom", color="#555555")
figure.savefig(FIGURES / "4_training.png")

# %% [markdown]
# What is exactly zero can be cut out. `alive` finds the units whose group is not zero, `compact`
# removes the others along every axis of every array, and the smaller network has the same loss.
# (Biases are in no group, so a dead unit may keep live biases. Nobody reads it, so this does not
# matter here; to make sure that no later gradient can wake the unit, set its biases to zero when it
# dies: `issref.zero_dead` does.)

# %%
trained = runs["proximal"][0]
living = alive(trained, groups)
small, small_layout = compact(trained, layout, living)
small_state = ptb_lstm.state_layout(small_layout, 16).allocate()

pieces = {"tokens": words[:-1], "targets": words[1:]}
(full_loss, _), _ = ptb_lstm.loss(trained, no_state, **pieces)
(small_loss, _), _ = ptb_lstm.loss(small, small_state, **pieces)
widths = [small_layout.sizes[space] for space in ("lstm0", "lstm1")]
counts = [one.parameters() for one in (layout, small_layout)]
print(f"layers of 8 and 8 units -> {widths[0]} and {widths[1]}")
print(f"parameters {counts[0]} -> {counts[1]}")
print(f"loss of a word {full_loss / 249:.3f} -> {small_loss / 249:.3f}")
assert abs(full_loss - small_loss) < 1e-9
assert widths == [2, 3]
assert counts == [1038, 176]

# %% [markdown]
# The loss stays above the 0.325 nats of the language: the penalty also shrinks the units that live.
# A smaller $\lambda$ pulls less, at the price of more units. That trade is the subject of every
# experiment with this method.
#
# ## Exercise
#
# Suppose two groups $g$ and $h$ consist of *the same* weights, and there are no others; both have
# the strength $\lambda$.
#
# 1. What is the proximal operator? At which strength do the groups die?
# 2. Is one block soft-threshold after the other right in this case?
# 3. Is the sufficient strength $\max_g \sqrt{a_g + \frac14 \sum_h S_{gh}}$ larger than needed here?
#
# Try to answer before you read on.
#
# ### Answer
#
# 1. The penalty is $\lambda |w| + \lambda |w| = 2 \lambda |w|$: one group with twice the strength.
#    So $w = v \max(0, 1 - 2 \lambda / |v|)$, and the groups die at $\lambda = |v| / 2$.
# 2. Yes. The first threshold takes $\lambda$ from the length, the second takes another $\lambda$ in
#    the same direction. One after the other is exact if any two groups are either disjoint or one
#    inside the other, and the inner one goes first; it fails when groups overlap in part, as ISS
#    groups do.
# 3. No. With $a_g = 0$ and $S_{gh} = |v|^2$ it is $\sqrt{|v|^2 / 4} = |v| / 2$, the critical
#    strength. To split shared weights evenly is optimal when both groups need the same.
#
# We check with a matrix whose rows all belong to one component and whose columns all to another.

# %%
twins = iss_groups(Layout({"kernel": (2 * ("g",), 3 * ("h",))}, {"g": 1, "h": 1}), ["g", "h"])
v = {"kernel": np.array([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])}  # |v| = 5
w, _ = prox(v, twins, 1.0)
in_turn = block_soft_threshold(block_soft_threshold(v["kernel"], 1.0), 1.0)
print("exact:", w["kernel"].round(6).tolist(), " in turn:", in_turn.round(6).tolist())
assert np.allclose(w["kernel"], v["kernel"] * (1 - 2 / 5), atol=1e-5)
assert np.allclose(in_turn, w["kernel"], atol=1e-5)

just_below, just_above = prox(v, twins, 2.49)[1].dead, prox(v, twins, 2.51)[1].dead
print("dead at strength 2.49:", just_below.tolist(), " at 2.51:", just_above.tolist())
assert just_below.tolist() == [False, False]
assert just_above.tolist() == [True, True]

# %% [markdown]
# ## What to take away
#
# - A subgradient step leaps over zero; a proximal step lands on it.
# - ISS groups overlap, so thresholding one group after another is not the proximal step. The exact
#   one is found in the dual, with one number for each pair of groups, however many weights there
#   are.
# - The duality gap certifies the answer: the weights are within $\sqrt{2\,\text{gap}}$ of the exact
#   ones. It also decides which groups are zero, with no threshold to tune.
# - At the strengths of a training step a few sweeps are enough. Where many groups are dying at
#   once, an interior-point method takes over.
#
# ## Where to go next
#
# - [Tutorial 5](5_compaction.py) cuts out what has died, while training goes on.
# - `issref/iss/prox.py` is this tutorial as it is used.
