# %% [markdown]
# # 4. Proximal steps
#
# To find out which units of an LSTM can be removed, we add a penalty to the loss that pulls whole
# units towards zero: the *group lasso*. For each unit $g$, collect its weights (four gate columns
# and the rows that read it, but not its biases) in one long vector $w_g$, the *group* of the unit,
# and minimise
#
# $$F(w) + \lambda \sum_g |w_g|,$$
#
# where $w$ holds all weights, $F$ is the loss on the data, $|\cdot|$ is the Euclidean norm (not
# squared), and $\lambda \ge 0$ is the *strength* of the penalty. These groups are the Intrinsic
# Sparse Structures of Wen et al. (ICLR 2018, arXiv 1709.05027). At the minimum some units are
# *exactly* zero, and they can be removed from the network without changing its outputs.
#
# This tutorial derives the training step that produces these exact zeros. **You will learn**
#
# 1. why gradient steps never reach zero, and why a *proximal* step does;
# 2. why it is wrong to treat the groups of ISS one at a time: they overlap;
# 3. how to compute the proximal step exactly, with one number for each pair of groups;
# 4. how the *duality gap* certifies the result, and how it decides which groups to set to zero.
#
# **You need** [tutorial 2](2_the_penalty.py) for the penalty, and backpropagation. It takes about
# 75 minutes to read, with the exercise, and seconds to run. Numbers about our own networks are
# computed below, and most are checked by an `assert`.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from issref import Layout, block_soft_threshold, group_norms, iss_groups, prox
from issref.models import ptb_lstm
from issref.report import COLOURS, STYLE

plt.rcParams.update(STYLE | {"figure.dpi": 110, "savefig.dpi": 160})
FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
# ## One group: gradient steps never reach zero
#
# Start with one group $w$ of two weights and the simplest loss, $F(w) = \frac12 |w - v|^2$. The
# data prefer $w = v = (0.3, 0.4)$, which has norm 0.5. With $\lambda = 0.6$ the minimum of $\frac12
# |w - v|^2 + \lambda |w|$ is at $w = 0$: near zero the penalty rises with slope 0.6 in every
# direction, and the loss falls with slope 0.5 at most.
#
# The norm has the gradient $w / |w|$ everywhere except at 0, where one chooses a *subgradient*,
# usually 0 (tutorial 2). Subgradient descent with the learning rate $\eta$ is then
#
# $$w \leftarrow w - \eta \, \big( (w - v) + \lambda\, w / |w| \big).$$
#
# However close $w$ is to zero, the penalty's gradient $\lambda w / |w|$ has length $\lambda$. So,
# except by chance, a step does not end at zero: it jumps over zero, and the next step jumps back.

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

# %% tags=["hide-input"]
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
# A smaller learning rate makes the jumps smaller, but zero is not reached. To get exact zeros from
# such a method one has to round: the code released with the paper sets every weight below a
# threshold to zero after each step, and the threshold is one more number to tune.
#
# ## The proximal step
#
# A gradient step can also be derived as a minimisation. Near the current weights $w_0$, replace the
# loss by its linear approximation plus a term that keeps the step short, and minimise:
#
# $$\min_w \; F(w_0) + \langle \nabla F(w_0), w - w_0 \rangle + \frac{1}{2 \eta} |w - w_0|^2 .$$
#
# The minimum is at the gradient step $v = w_0 - \eta \nabla F(w_0)$. A *proximal* gradient step
# adds the exact penalty to this problem, without approximating it. After completing the square and
# multiplying by $\eta$, the new weights are
#
# $$\mathrm{prox}(v) = \arg\min_w \; \frac12 |w - v|^2 + \sum_g \lambda_g |w_g|,
#   \qquad v = w_0 - \eta \nabla F(w_0), \quad \lambda_g = \eta \lambda .$$
#
# This is the *proximal operator* of the penalty. The norms are convex and the square is strongly
# convex, so there is exactly one minimum. From here on $\lambda_g$, or $\lambda$ if all groups have
# the same, is the strength in this problem: the learning rate times the strength of the penalty.
# (The example above already uses it: `rate * strength`.)
#
# ### One group in closed form
#
# The number $\lambda |w|$ is the largest inner product of $w$ with a vector $\xi$ (xi) no longer
# than $\lambda$: $\lambda |w| = \max_{|\xi| \le \lambda} \langle \xi, w \rangle$. Insert this into
# the problem and exchange minimum and maximum. (A theorem allows it, because the problem is convex
# in $w$ and linear in $\xi$, and the ball is closed and bounded. Below we check it directly.)
#
# $$\min_w \frac12 |w - v|^2 + \lambda |w|
#   \;=\; \max_{|\xi| \le \lambda} \; \min_w \; \frac12 |w - v|^2 + \langle \xi, w \rangle
#   \;=\; \max_{|\xi| \le \lambda} \; \frac12 |v|^2 - \frac12 |v - \xi|^2 .$$
#
# The inner minimum is at $w = v - \xi$. Its value is $\frac12 |\xi|^2 + \langle \xi, v - \xi
# \rangle = \frac12 |v|^2 - \frac12 |v - \xi|^2$. The remaining problem, the *dual problem*, asks
# for the point $\xi$ of the ball that is nearest to $v$. This is a projection: $\xi = v \min(1,
# \lambda /
# |v|)$. Hence
#
# $$w = v - \xi = v \, \max\!\Big(0,\; 1 - \frac{\lambda}{|v|}\Big).$$
#
# Was the exchange correct? Even without the theorem, the right side is never larger than the left
# side, because $\langle \xi, w \rangle \le \lambda |w|$ for every $\xi$ in the ball. Now insert
# this pair of $w$ and $\xi$: both sides equal $\lambda |v| - \frac12 \lambda^2$ if $|v|$ is larger
# than $\lambda$, and $\frac12 |v|^2$ if not. Since the two sides are equal, the minimum is at $w$
# and the maximum at $\xi$.
#
# This is *block soft-thresholding*: the group keeps its direction and its norm is reduced by
# $\lambda$; if its norm is at most $\lambda$, the group becomes exactly zero. (That $v$ is the sum
# of its proximal point and its projection onto the dual ball is known as Moreau's decomposition.)
#
# A direct implementation of the formula has a trap: at $v = 0$ with $\lambda = 0$ it divides 0 by
# 0, although the answer is clear (a strength of 0 changes nothing). In practice this happens
# whenever a group is dead and the penalty is switched off.

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
# If the groups shared no weights, we would threshold each one separately. But the groups of ISS
# overlap. The recurrent weight from unit $j$ to unit $k$ of a layer lies in the recurrent row of
# $j$ and in a gate column of $k$. The weight from a lower unit to an upper unit lies in a row that
# reads the lower unit and in a gate column of the upper unit. Every weight lies in at most two
# groups, the group of its row and the group of its column.
#
# Our example is a network with two layers of 4 units each, an embedding of size 3 and 7 words. We
# scale the weights of the 8 units differently, so that some units are more important than others.
# `groups.ids[array]` holds the group number of each row and of each column of an array, and -1 for
# a row or column that is in no group. As an index, -1 selects the last entry, so the last entry of
# `scales` is 1, for "no group".

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
# What happens if we threshold one group after another, each time in the weights that the previous
# one left? We try two orders. We also try to apply all 8 factors $1 - \lambda / |v_g|$ at once, so
# that a shared weight is multiplied by both of its factors. `prox` returns the exact solution; the
# rest of this tutorial explains how.


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
# Both orders end above the minimum, at different points, and so does the product of all factors.
# One order even makes a unit zero that the exact step keeps. None of the three is the proximal
# operator. Why? A weight from $j$ to $k$ is in both groups. If $j$ is thresholded first, this
# weight is shorter before $k$ has its turn: the norm of $k$ is smaller, and so is its factor. At
# the minimum, a nonzero weight in both groups satisfies $w = v - \lambda w / |w_j| - \lambda w /
# |w_k|$ with the norms of the *final* weights. When $k$ shortens the weight after $j$, it changes
# $|w_j|$, so this equation does not hold. The two groups have to divide the weight between them,
# and that has to be decided for all groups together. (One after another is exact if any two groups
# are disjoint or one contains the other, and the inner group is thresholded first. It fails when
# groups overlap in part, as here.)
#
# ## The dual problem, with one vector for each group
#
# We repeat the derivation for one group, now with one vector $\xi_g$ for each group $g$. It has one
# entry for each weight of the group, and $|\xi_g| \le \lambda_g$. A weight in two groups has an
# entry in both vectors. As before,
#
# $$w = v - \sum_g \xi_g, \qquad \max_{|\xi_g| \le \lambda_g \text{ for all } g} \;
#   \frac12 |v|^2 - \frac12 \Big| v - \sum_g \xi_g \Big|^2 .$$
#
# Now there is no closed form. But if all vectors except $\xi_g$ are held fixed, the best $\xi_g$ is
# again a projection: with $u$ the part of $v - \sum_{h \ne g} \xi_h$ on the weights of group $g$,
#
# $$\xi_g = u \, \min(1, \lambda_g / |u|).$$
#
# Updating the groups in turn, again and again, is *block coordinate ascent*; one pass over all
# groups is a *sweep*. It converges to the maximum, because the dual objective is smooth and each
# $\xi_g$ has a constraint of its own.
#
# ### One number for each pair of groups
#
# In this form, every sweep would touch every weight. But look at the weights that lie in the two
# groups $g$ and $h$. Start with all $\xi = 0$. On these weights $u = v - \xi_h$. If $\xi_h$ is a
# multiple of $v$ there, so is $u$, and so is the new $\xi_g$, which is $u$ times a number. By
# induction both vectors remain multiples of $v$:
#
# $$\xi_g = B_{gh}\, v \;\text{ and }\; \xi_h = B_{hg}\, v
#   \;\text{ on the weights of } g \text{ and } h,
#   \qquad \xi_g = A_g\, v \;\text{ on the weights of } g \text{ alone.}$$
#
# The number $B_{gh}$ is the *share* of $v$ that group $g$ subtracts from the weights it has in
# common with $h$. To compute $|u|$ we need only the *squared norms*
#
# - $q_g$, the sum of $v^2$ over the weights in $g$ alone,
# - $S_{gh}$, the sum of $v^2$ over the weights in both $g$ and $h$ (so $S_{gh} = S_{hg}$, $S_{gg} =
#   0$),
#
# and the update of group $g$ needs these numbers only:
#
# $$|u|^2 = q_g + \sum_h S_{gh} (1 - B_{hg})^2, \quad s = \min(1, \lambda_g / |u|), \quad
#   A_g = s, \quad B_{gh} = s\, (1 - B_{hg}).$$
#
# However many weights there are, one sweep costs $G^2$ operations for $G$ groups. The weights are
# read once, to compute the squared norms, and scaled once at the end: by $1 - B_{gh} - B_{hg}$, or
# by $1 - A_g$.
#
# First the squared norms. `table[g, h]` is the sum of $v^2$ over the weights with their row in $g$
# and their column in $h$.

# %%
table = np.zeros((G + 1, G + 1))  # the last row and column: "no group"
for array, (rows, columns) in groups.ids.items():
    np.add.at(table, (rows[:, None], columns), V[array] ** 2)

own = table[:G, G] + table[G, :G] + table.diagonal()[:G]  # q_g
shared = (table + table.T)[:G, :G]  # S
np.fill_diagonal(shared, 0)
assert np.allclose(np.sqrt(own + shared.sum(axis=1)), group_norms(V, groups))

# %% [markdown]
# Now the iteration. This is the whole method.


# %%
def sweep(A, B, strength):
    """One round of exact maximisation of the dual, one group after the other; changes A and B."""
    for g in range(G):
        left = 1 - B[:, g]  # the fraction of v not taken by the other group
        rho = np.sqrt(own[g] + shared[g] @ left**2)
        s = min(1.0, strength / rho)
        A[g], B[g] = s, s * left


A, B = np.zeros(G), np.zeros((G, G))
for _ in range(40):
    sweep(A, B, STRENGTH)


# %% [markdown]
# One pass over the weights gives the result. Each weight is scaled by `keep[row group, column
# group]`.


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
# How do we know that 40 sweeps were enough, or that `prox` is correct? The dual problem answers
# this. Write $P(w)$ for the objective and $D(\xi) = \frac12 |v|^2 - \frac12 |v - \sum_g \xi_g|^2$
# for the dual objective. For every $\xi$ with $|\xi_g| \le \lambda_g$ the value $D(\xi)$ is a lower
# bound of the minimum $P(w^*)$: from $\langle \xi_g, w \rangle \le \lambda_g |w_g|$ follows
# $\frac12 |w - v|^2 + \langle \sum_g \xi_g, w \rangle \le P(w)$ for every $w$, and the smallest
# value of the left side is $D(\xi)$. The difference $P(w) - D(\xi)$ is the *duality gap*. It bounds
# how far $P(w)$ is from the minimum, and we can compute it without knowing the minimum.
#
# Write $z = \sum_g \xi_g$ for short. For $w = v - z$ we have
#
# $$|v|^2 = |w|^2 + 2 \langle w, z \rangle + |z|^2 .$$
#
# Insert this into $P(w) - D(\xi)$. The squares cancel, and
#
# $$\text{gap} = P(w) - D(\xi) = \sum_g \big( \lambda_g |w_g| - \langle \xi_g, w \rangle \big)
#   \;\ge\; 0 .$$
#
# Each term is at least 0, because $|\xi_g| \le \lambda_g$. If the weights are changed afterwards
# (we will round some groups to zero), $w$ is no longer $v - \sum_g \xi_g$, and the term $\frac12
# |w - (v - \sum_g \xi_g)|^2$ must be added to the gap.
#
# The gap also bounds the distance. $P$ contains $\frac12 |w - v|^2$ and is therefore *strongly
# convex*: $P(w) \ge P(w^*) + \frac12 |w - w^*|^2$. So $\frac12 |w - w^*|^2 \le P(w) - P(w^*) \le
# \text{gap}$, and
#
# $$|w - w^*| \le \sqrt{2 \, \text{gap}} .$$
#
# Note the square root: a gap of $10^{-12}$ guarantees six digits of $w$, not twelve. In terms of
# the shares the gap is short. It must be computed after a full sweep, when all $\xi_g$ have been
# projected onto their balls.


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
# `issref.prox` does the same in a compiled loop and returns the weights and a `Certificate`, which
# holds the gap and the shares (`warm_start`), so that anyone can compute the gap again. If `prox`
# cannot reach its tolerance, it warns.
#
# ### Exact zeros
#
# In our own computation, a group that should be zero comes out as a tiny number. Here it is a
# rounding error; after fewer sweeps it would be larger.

# %%
tiny = group_norms(by_hand, groups)
print("norms by hand:", " ".join(f"{norm:.1e}" for norm in tiny))
print("norms of prox:", " ".join(f"{norm:.1e}" for norm in group_norms(exact, groups)))
print("dead:", certificate.dead)
assert certificate.dead.tolist() == (group_norms(exact, groups) == 0).tolist()
assert int(certificate.dead.sum()) == 1

# %% [markdown]
# The certificate also decides which of these to round. If $w^*_g = 0$, then $|w_g| \le |w - w^*|
# \le \sqrt{2\,\text{gap}}$. So a longer group is certainly not zero. `prox` sets the groups up to
# this length to zero and computes the gap of the resulting weights; while it is above the
# tolerance, more sweeps follow. There is no threshold to tune: the gap supplies it. A group that is
# set to zero may be nonzero in the exact solution, if it is too short for the certificate to tell.
# But the gap, which includes this change, still bounds the error. (Floating-point numbers have
# rounding errors of their own, for which `prox` allows.)
#
# ## The strength at which all units die
#
# The smallest strength at which all groups are zero is the *critical strength*. It has no closed
# form when groups overlap, but there is an upper bound. Split each shared weight evenly between its
# two groups: $\xi_g = \frac12 v$ on shared weights and $\xi_g = v$ on the others. Then $w = v -
# \sum_g \xi_g = 0$, and this $\xi$ satisfies its constraints as soon as
#
# $$\lambda \ge \max_g \sqrt{q_g + \tfrac14 \textstyle\sum_h S_{gh}} .$$
#
# The gap is then 0, which proves that $w = 0$ is optimal. We call this bound the *sufficient
# strength*, and find the critical strength by bisection.

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

# %% [markdown]
# How do the groups die as the strength grows? We compute the exact solution from strength 0, where
# $w = v$, to a little above the sufficient strength.

# %%
path = np.union1d(np.linspace(0, 1.04 * sufficient, 161), critical)
steps = [prox(V, groups, strength) for strength in path]
norms = np.array([group_norms(W, groups) for W, _ in steps])
died = np.array([certificate.dead for _, certificate in steps])
death = path[died.argmax(axis=0)]  # the first strength on the path at which a group is zero
order = np.argsort(death)
print("dies first to last:", order.tolist(), "at strengths", death[order].round(2).tolist())
assert np.all(died[1:] >= died[:-1])  # here, no unit returns
assert norms[0].tolist() == group_norms(V, groups).tolist()
assert np.all(norms[path >= sufficient] == 0)
assert np.all((norms == 0) == died)
assert np.argsort(norms[0]).tolist() == [3, 7, 2, 6, 1, 5, 4, 0]
assert order.tolist() == [3, 7, 6, 2, 1, 5, 4, 0]

# %% tags=["hide-input"]
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
# The units die almost in the order of their norms at strength 0. There is one exception: unit 6 has
# a larger norm than unit 2 at first, but the curves cross and unit 6 dies before unit 2. Many
# curves meet the axis at a small angle: just below the strength at which a unit dies, its norm is
# tiny but not zero. No fixed threshold could separate the two cases at every strength; the
# certificate proves that a group is alive if it is longer than $\sqrt{2\,\text{gap}}$.
#
# ## Exercise
#
# Suppose two groups $g$ and $h$ consist of *the same* weights, and there are no other groups. Both
# have the strength $\lambda$.
#
# 1. What is the proximal operator? At which strength do the groups die?
# 2. Is one block soft-threshold after the other correct in this case?
# 3. Is the sufficient strength $\max_g \sqrt{q_g + \frac14 \sum_h S_{gh}}$ larger than necessary
#    here?
#
# Try to answer before you read on.
#
# ### Answer
#
# 1. The penalty is $\lambda |w| + \lambda |w| = 2 \lambda |w|$: one group with twice the strength.
#    So $w = v \max(0, 1 - 2 \lambda / |v|)$, and the groups die at $\lambda = |v| / 2$.
# 2. Yes. The first threshold reduces the norm by $\lambda$, and the second reduces it by another
#    $\lambda$ in the same direction: the groups do not overlap in part, they are nested.
# 3. No. With $q_g = 0$ and $S_{gh} = |v|^2$ it is $\sqrt{|v|^2 / 4} = |v| / 2$, the critical
#    strength. An even split of shared weights is optimal when both groups need the same amount.
#
# We check this with a matrix whose rows all belong to one component and whose columns all belong to
# another.

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
# - A subgradient step jumps over zero; a proximal step reaches zero exactly.
# - The groups of ISS overlap, so thresholding one group after another is not the proximal step. The
#   exact step is found in the dual problem, with one number for each pair of groups, however many
#   weights there are.
# - The duality gap certifies the result: the weights are within $\sqrt{2\,\text{gap}}$ of the exact
#   ones. It also decides which groups to set to zero, with no threshold to tune.
#
# ## Where to go next
#
# - [Tutorial 5](5_newton_and_warm_starts.py) shows how many sweeps a step needs, what to do when
#   sweeps are too slow, and how the proximal step trains a small LSTM.
# - `issref/iss/dual.py` contains the sweeps and the gap; `issref/iss/prox.py` applies them to the
#   weights.
