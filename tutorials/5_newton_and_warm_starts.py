# %% [markdown]
# # 5. Newton's method and warm starts
#
# [Tutorial 4](4_proximal_steps.py) derived the proximal step of the group lasso: a training step
# that makes whole units of an LSTM exactly zero. Its core is an iteration that updates one group
# after the other, in *sweeps*. Usually a few sweeps are enough. Where groups are about to become
# zero, a thousand may be too few, and issref changes to Newton's method. In training it also starts
# each step from the result of the previous one. This tutorial derives the problem that Newton's
# method solves, and counts the rounds of both.
#
# **You will learn** how many sweeps a proximal step needs, and when that number explodes; how the
# problem becomes a smooth one in a single number for each group, which Newton's method solves; what
# the proximal step does to a small LSTM in training, compared with a subgradient step; and how much
# work a *warm start* saves there.
#
# **You need** [tutorial 4](4_proximal_steps.py) and Newton's method. The definitions are repeated
# below. It takes about 65 minutes to read, with the exercise, and seconds to run. Numbers about our
# own networks are computed below, and most are checked by an `assert`.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from issref import alive, compact, group_norms, iss_groups, penalty, prox, zero_small_weights
from issref.models import ptb_lstm
from issref.report import COLOURS, STYLE

plt.rcParams.update(STYLE | {"figure.dpi": 110, "savefig.dpi": 160})
FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
# ## The proximal step, in short
#
# The weights of unit $g$ form its group $w_g$. After a gradient step on the loss has led to the
# weights $v$, the proximal step returns the $w$ that minimises
#
# $$P(w) = \frac12 |w - v|^2 + \sum_g \lambda_g |w_g| ,$$
#
# where $\lambda_g$ is the learning rate times the strength of the penalty. Every weight lies in at
# most two groups, the group of its row and the group of its column. The dual problem has one vector
# $\xi_g$ for each group, with $|\xi_g| \le \lambda_g$, and $w = v - \sum_g \xi_g$. These vectors
# are multiples of $v$, by factors called *shares*: $\xi_g = B_{gh}\, v$ on the weights that are in
# $g$ and $h$, and $\xi_g = A_g\, v$ on the weights of $g$ alone. So the iteration needs only the
# squared norms of $v$ on these sets of weights, $S_{gh}$ and $q_g$. One *sweep* updates each group
# in turn:
#
# $$|u|^2 = q_g + \sum_h S_{gh} (1 - B_{hg})^2, \quad s = \min(1, \lambda_g / |u|), \quad
#   A_g = s, \quad B_{gh} = s\, (1 - B_{hg}).$$
#
# Here $u$ is the part of $v - \sum_{h \ne g} \xi_h$ on the weights of $g$, and the new $\xi_g$ is
# $s\,u$. After each sweep the *duality gap* bounds the error: $P(w)$ is at most the gap above the
# minimum, and $w$ is within $\sqrt{2\,\text{gap}}$ of the exact solution.
#
# The example is that of tutorial 4: two layers of 4 units each, whose weights are scaled so that
# some units are more important than others.

# %%
layout = ptb_lstm.layout(ptb_lstm.Config(vocabulary=7, embed_size=3, hidden_sizes=(4, 4)))
groups = iss_groups(layout, ["lstm0", "lstm1"])
G = groups.count

rng = np.random.default_rng(1)
scales = np.array([1.20, 0.81, 0.56, 0.30, 1.07, 0.94, 0.69, 0.43, 1.0])
V = {array: rng.uniform(-0.5, 0.5, layout.shape(array)) for array in layout.axes}
for array, (rows, columns) in groups.ids.items():
    V[array] = V[array] * scales[rows][:, None] * scales[columns]

table = np.zeros((G + 1, G + 1))  # the last row and column: "no group"
for array, (rows, columns) in groups.ids.items():
    np.add.at(table, (rows[:, None], columns), V[array] ** 2)
own = table[:G, G] + table[G, :G] + table.diagonal()[:G]  # q_g
shared = (table + table.T)[:G, :G]  # S
np.fill_diagonal(shared, 0)


def sweep(A, B, strength):
    """One round of exact maximisation of the dual, one group after the other; changes A and B."""
    for g in range(G):
        left = 1 - B[:, g]  # the fraction of v not taken by the other group
        rho = np.sqrt(own[g] + shared[g] @ left**2)
        s = min(1.0, strength / rho)
        A[g], B[g] = s, s * left


def norms_of(A, B):
    """The group norms of w, from the squared norms of v."""
    return np.sqrt(own * (1 - A) ** 2 + (shared * (1 - B - B.T) ** 2).sum(axis=1))


def primal_objective(A, B, strength):
    """P(w) from the squared norms; each pair occurs twice in the table, hence 1/4."""
    moved = (own * A**2).sum() / 2 + (shared * (B + B.T) ** 2).sum() / 4
    return moved + strength * norms_of(A, B).sum()


def gap_of(A, B, strength):
    both, alone = 1 - B - B.T, 1 - A
    return (strength * norms_of(A, B) - own * A * alone - (shared * B * both).sum(axis=1)).sum()


A, B = np.zeros(G), np.zeros((G, G))
for _ in range(40):
    sweep(A, B, 0.7)
certificate = prox(V, groups, 0.7)[1]
print(f"objective after 40 sweeps {primal_objective(A, B, 0.7):.4f}, gap {gap_of(A, B, 0.7):.0e}")
print(f"issref.prox needs {certificate.sweeps} sweeps to a gap of {certificate.gap:.0e}")
assert f"{primal_objective(A, B, 0.7):.4f}" == "4.6977"
assert certificate.relative_gap <= 1e-12  # the tolerance of prox: gap over objective

# %% [markdown]
# ## How many sweeps?
#
# We record the gap for several strengths. The natural unit is the *critical strength*, the smallest
# one at which all groups are zero. Bisection finds it.

# %%
sufficient = np.sqrt(own + shared.sum(axis=1) / 4).max()  # from tutorial 4: here all groups die
low, high = 0.0, sufficient
for _ in range(30):
    middle = (low + high) / 2
    everything_dies = prox(V, groups, middle)[1].dead.all()
    low, high = (low, middle) if everything_dies else (middle, high)
critical = high
print(f"critical strength {critical:.4f}")
assert f"{critical:.4f}" == "1.6101"


def gaps_by_sweep(strength, sweeps):
    A, B = np.zeros(G), np.zeros((G, G))
    gaps = []
    for _ in range(sweeps):
        sweep(A, B, strength)
        gaps.append(gap_of(A, B, strength) / primal_objective(A, B, strength))
    return np.array(gaps)


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

# %% tags=["hide-input"]
figure, axes = plt.subplots(figsize=(7.5, 3.4))
shades = plt.get_cmap("viridis")(np.linspace(0.85, 0.0, len(FRACTIONS)))
for (fraction, gaps), shade in zip(curves.items(), shades, strict=True):
    ends = min(needed[fraction], SWEEPS)
    axes.plot(np.arange(1, ends + 1), gaps[:ends], color=shade, label=f"{fraction:.0%}")
    axes.plot(ends, gaps[ends - 1], "o" if ends < SWEEPS else "", color=shade)
axes.axhline(1e-12, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)))
axes.text(30, 6e-13, "tolerance of prox", va="top", color="#555555")
axes.set(xscale="log", yscale="log", xlabel="sweep", ylabel="relative duality gap", ylim=(1e-17, 1))
axes.set_title("Sweeps alone: a few at a small strength, over a thousand where groups are dying")
legend = {"title": "of the critical\nstrength", "loc": "center left", "bbox_to_anchor": (1, 0.5)}
axes.legend(**legend, frameon=False)
figure.savefig(FIGURES / "5_convergence.png")

# %% [markdown]
# In training, the strength of one step is the learning rate times the strength of the penalty,
# usually much smaller than the group norms. A few sweeps are then enough. But where groups are
# about to die, the sweeps converge very slowly. If a group is alive at the solution, $\xi_g = s_g
# u$ has length $\lambda_g$, and $w_g = u - \xi_g$ has the same direction, so $|u| = \lambda_g +
# |w_g|$ and $s_g = \lambda_g / (\lambda_g + |w_g|)$. With $s$ held fixed, $B_{hg} \leftarrow s_h
# (1 - B_{gh})$ and then $B_{gh} \leftarrow s_g (1 - B_{hg})$, so a sweep multiplies an error of
# $B_{gh}$ by $s_g s_h$. This factor is small if $\lambda_g \ll |w_g|$, and close to 1 if both
# groups are about to die.
#
# ## Newton's method with a barrier
#
# After 64 sweeps `prox` therefore changes its method. It uses another expression for a norm:
#
# $$\lambda |w| = \min_{\tau > 0} \; \frac12 \left( \frac{|w|^2}{\tau} + \lambda^2 \tau \right),
#   \qquad \text{with the minimum at } \tau = |w| / \lambda .$$
#
# (For $w = 0$ the value 0 is only approached, as $\tau \to 0$.) Give each group a number $\tau_g$
# of its own. (It is not the threshold $\tau$ of tutorial 2.) For given $\tau$ the whole problem is
# quadratic in $w$, and the minimum can be found for each weight separately. For a weight in $g$ and
# $h$,
#
# $$\min_w \; \frac12 (w - v)^2 + \frac12 w^2 \Big( \frac1{\tau_g} + \frac1{\tau_h} \Big)
#   = \frac12 v^2 \, \frac{\tau_g + \tau_h}{\tau_g \tau_h + \tau_g + \tau_h}
#   \qquad \text{at} \qquad w = v \, \frac{\tau_g \tau_h}{\tau_g \tau_h + \tau_g + \tau_h} .$$
#
# For a weight in $g$ alone let $\tau_h \to \infty$: the value becomes $\frac12 v^2 / (1 + \tau_g)$,
# at $w = v\, \tau_g / (1 + \tau_g)$. The result is a problem in one number for each group:
#
# $$\inf_{\tau > 0} \; J(\tau) = \frac12 \sum_{\text{pairs } g < h} S_{gh}
#   \frac{\tau_g + \tau_h}{\tau_g \tau_h + \tau_g + \tau_h}
#   + \frac12 \sum_g \frac{q_g}{1 + \tau_g} + \frac12 \sum_g \lambda_g^2 \tau_g .$$
#
# It is convex, because $|w|^2 / \tau$ is convex in $w$ and $\tau$ together, and the minimum over
# $w$ keeps this. A group dies if its $\tau_g$ goes to the boundary, 0. Newton's method must not
# cross that boundary, so one adds a *barrier* $-\mu \sum_g \log \tau_g$, which is infinite at 0.
# One solves the problem for some $\mu > 0$, and then for smaller and smaller $\mu$, each time from
# the previous solution. This is an *interior-point method*. Each Newton step solves a linear system
# of $G$ equations. Each $\tau$ also gives $\xi_g = w_g / \tau_g$ (scaled back into its ball if
# necessary) and hence a gap; the certificate is the same as before.
#
# We check this reduction: at a strength where all groups are nonzero, $J$ at $\tau_g = |w_g| /
# \lambda_g$ equals the objective of the exact weights, and $J$ is larger around it.


# %%
def objective(W, strength):
    """1/2 |w - v|^2 + strength * sum of group norms."""
    moved = sum(((W[array] - V[array]) ** 2).sum() for array in V)
    return moved / 2 + strength * group_norms(W, groups).sum()


def reduced(tau, strength):
    """J(tau); each pair occurs twice in S, hence 1/4."""
    a, b = tau[:, None], tau[None, :]
    pairs = (shared * (a + b) / (a * b + a + b)).sum() / 4
    return pairs + (own / (1 + tau)).sum() / 2 + (strength**2 * tau).sum() / 2


easy = 0.3 * critical
easy_weights, _ = prox(V, groups, easy)
tau = group_norms(easy_weights, groups) / easy
assert (tau > 0).all()
print(f"J at tau: {reduced(tau, easy):.6f}, objective: {objective(easy_weights, easy):.6f}")
assert abs(reduced(tau, easy) - objective(easy_weights, easy)) < 1e-10
for _ in range(100):
    assert reduced(tau * np.exp(rng.normal(0, 0.1, G)), easy) > reduced(tau, easy)


# %% [markdown]
# And we check the results in the hard cases. `certificate.warm_start` holds the shares $B$ (and
# $A$, in the last column) that belong to the weights. We verify that every $\xi_g$ is in its ball,
# and compute the gap ourselves, as the objective of the weights minus the dual objective. As a
# further check we run 1000 sweeps of our own and compare.


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


def dual_objective(A, B):
    """1/2 |v|^2 - 1/2 |v - sum of xi|^2, from the squared norms."""
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
    accuracy = np.sqrt(2 * max(gap_of(A, B, strength), 0)) + np.sqrt(2 * max(gap, 0))
    assert apart <= accuracy + 1e-12
    rounds[fraction] = certificate.sweeps
    dead = int(certificate.dead.sum())
    print(f"{fraction:8.0%} {certificate.sweeps:9} {relative:17.0e} {dead:6} {apart:24.0e}")
assert rounds[0.1] == 5
assert all(64 < rounds[fraction] < 164 for fraction in (0.6, 0.9, 1.0))

# %% [markdown]
# `certificate.sweeps` counts *rounds*, sweeps and Newton steps together: any number above 64 means
# that Newton's method was used. A Newton step solves $G$ equations, of the order of $G^3$
# operations; a sweep needs $G^2$. At 90% and at 100%, about a hundred rounds achieve what a
# thousand sweeps could not.
#
# ## In training
#
# Now a whole network. The text is in an artificial language of six words: after word $i$ comes word
# $i + 1$ with probability 0.9, and otherwise word $i + 2$ (counting modulo 6). No model can have a
# lower expected loss on new text than the entropy of that choice, 0.325 nats for each word (a *nat*
# is the unit of a loss in natural logarithms). Two layers of 8 units are more than such a language
# needs. We train a dense network for 200 steps. From there we train for 500 more steps in two ways,
# with the same penalty, learning rate and batches:
#
# - *subgradient*: add the gradient of the penalty to the gradient of the loss, as the code released
#   with the paper does (Wen et al., ICLR 2018);
# - *proximal*: a gradient step on the loss, then `prox` with strength $\eta \lambda$, where $\eta$
#   is the learning rate and $\lambda$ the strength of the penalty.
#
# In the proximal run we also count the rounds of each step, for the next section: once starting
# from $\xi = 0$ (cold), and once from the shares of the previous step (warm).

# %%
rng = np.random.default_rng(0)
words = (np.cumsum(np.where(rng.random(4000) < 0.9, 1, 2)) % 6).reshape(16, 250).T  # (time, batch)
WINDOW, RATE, LAMBDA = 12, 0.2, 0.4

config = ptb_lstm.Config(vocabulary=6, embed_size=4, hidden_sizes=(8, 8), init_scale=0.3)
layout = ptb_lstm.layout(config)
groups = iss_groups(layout, ["lstm0", "lstm1"])
no_state = ptb_lstm.state_layout(layout, 16).allocate()


def train(params, method, steps):
    """The weights, and for each step: loss of a word, group norms, rounds of prox (warm, cold)."""
    state, start, shares = no_state, 0, None
    losses, norms, rounds = [], [], []
    for _ in range(steps):
        if start + WINDOW + 1 > len(words):
            state, start = no_state, 0
        inputs, targets = words[start : start + WINDOW], words[start + 1 : start + WINDOW + 1]
        (loss, state), backward = ptb_lstm.loss(params, state, tokens=inputs, targets=targets)
        grads, _ = backward(1.0)
        start += WINDOW
        if method == "subgradient":
            _, penalty_grads = penalty(params, groups, LAMBDA)
            grads = {array: grads[array] + penalty_grads.get(array, 0) for array in grads}
        params = {array: params[array] - RATE * grads[array] for array in params}
        if method == "proximal":
            _, cold = prox(params, groups, RATE * LAMBDA)
            params, certificate = prox(params, groups, RATE * LAMBDA, warm_start=shares)
            shares = certificate.warm_start
            rounds.append((certificate.sweeps, cold.sweeps))
        losses.append(loss / WINDOW)
        norms.append(group_norms(params, groups))
    return params, np.array(losses), np.array(norms), np.array(rounds)


entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
print(f"entropy of the next word: {entropy:.3f} nats")
assert f"{entropy:.3f}" == "0.325"

initial = ptb_lstm.init_params(config, layout, np.random.default_rng(1))
dense, *_ = train(initial, "dense", 200)
runs = {method: train(dense, method, 500) for method in ("subgradient", "proximal")}

for method, (_, losses, norms, _) in runs.items():
    zeros = int((norms[-1] == 0).sum())
    mean_loss = losses[-100:].mean()
    print(f"{method:12} {zeros:2} of 16 units at zero, loss of the last 100 steps {mean_loss:.2f}")
    assert f"{mean_loss:.2f}" == "0.44"
ends = {method: norms[-1] for method, (_, _, norms, _) in runs.items()}
assert int((ends["subgradient"] == 0).sum()) == 0
assert int((ends["proximal"] == 0).sum()) == 11

# %% [markdown]
# The two runs agree on which units matter, and reach nearly the same loss. But the subgradient has
# made no unit zero: the units that should be zero oscillate around zero with a norm of about $\eta
# \lambda = 0.08$. (In tutorial 2 it was half of that. Here groups overlap: apart from the loss, a
# step multiplies a weight in $g$ and $h$ by $1 - \eta \lambda\, (1 / |w_g| + 1 / |w_h|)$. If both
# norms are $\eta \lambda$, the factor is $-1$, and the weight oscillates. If $h$ is alive, the
# factor is about 0, and the weight vanishes. So the weights left are shared by two such units, and
# one step removes 0.16, twice the norm.) The released code's threshold of 0.0001 for each weight
# does not remove these units either, at this learning rate.

# %%
should_be_zero = ends["proximal"] == 0
remaining = ends["subgradient"][should_be_zero]
rounded = zero_small_weights(runs["subgradient"][0], 0.0001)
removable = int((group_norms(rounded, groups) == 0).sum())
_, penalty_grads = penalty(runs["subgradient"][0], groups, LAMBDA)
removed_length = RATE * group_norms(penalty_grads, groups)[should_be_zero]
print(f"norms {remaining.min():.2f} to {remaining.max():.2f}; eta lambda = {RATE * LAMBDA:.2f}")
print(f"one step removes {removed_length.min():.2f} to {removed_length.max():.2f}")
print(f"smallest unit that is alive: {ends['proximal'][~should_be_zero].min():.1f}")
print(f"units at zero after the threshold: {removable}")
assert np.all((remaining > 0.07) & (remaining < 0.10))
assert np.allclose(removed_length, 2 * RATE * LAMBDA, rtol=0.02)
assert ends["subgradient"][~should_be_zero].min() > 1
assert removable == 0

# %% tags=["hide-input"]
figure, panels = plt.subplots(1, 2, figsize=(8.6, 3.3), sharey=True)
for axes, (method, (_, _, norms, _)) in zip(panels, runs.items(), strict=True):
    for g in range(16):
        is_alive = norms[:, g] > 0
        colour = COLOURS[1] if should_be_zero[g] else COLOURS[0]
        axes.plot(np.where(is_alive, norms[:, g], np.nan), color=colour, linewidth=1)
    axes.axhline(RATE * LAMBDA, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set(yscale="log", xlabel="step", xlim=(0, 500))
    axes.set_title(f"{method}: {int((norms[-1] == 0).sum())} of 16 units at zero")
for colour, label in ((COLOURS[0], "alive at the end"), (COLOURS[1], "zero in the proximal run")):
    panels[1].plot([], [], color=colour, label=label)
panels[1].legend(frameon=False, loc="lower right", title="units, in both panels")
panels[0].set_ylabel("group norm $|w_g|$")
panels[0].text(495, 0.11, r"$\eta \lambda$", ha="right", va="bottom", color="#555555")
figure.savefig(FIGURES / "5_training.png")

# %% [markdown]
# Units that are exactly zero can be removed. `alive` finds the units whose group is not zero, and
# `compact` removes the others along every axis of every array. The smaller network has the same
# loss. (Biases are in no group, so a dead unit may have nonzero biases. Nothing reads the unit, so
# this does not matter here. To make sure that no later gradient can revive the unit, set its biases
# and its carried state to zero when it dies; `issref.zero_dead` does this for the weights, and for
# the state with the state's layout (tutorial 6).)

# %%
trained = runs["proximal"][0]
alive_masks = alive(trained, groups)
small, small_layout = compact(trained, layout, alive_masks)
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
# The loss stays above the 0.325 nats of the language. One reason is that the penalty also shrinks
# the units that are alive. A smaller $\lambda$ shrinks them less, but leaves more units. Tutorial 9
# is about this choice.
#
# ## Warm starts
#
# From one training step to the next the weights move a little, and so do the squared norms $q_g$
# and $S_{gh}$ and the solution of the dual problem. So the shares $A$ and $B$ of the last step are
# nearly right for the next one. `prox(..., warm_start=certificate.warm_start)` starts from them.
# This is safe whatever they are: the first sweep replaces each $\xi_g$ by a vector in its ball, and
# the gap is computed from the current weights. A bad start costs rounds, not accuracy.

# %%
warm, cold = runs["proximal"][3].T
for name, rounds in {"cold": cold, "warm": warm}.items():
    newton = int((rounds > 64).sum())
    print(f"{name}: median {np.median(rounds):.0f} rounds a step, Newton in {newton} steps of 500")
print(f"warm starts save {1 - warm.sum() / cold.sum():.0%} of all sweeps and Newton steps")
assert [f"{np.median(rounds):.0f}" for rounds in (cold, warm)] == ["4", "2"]
assert (warm > 64).sum() < (cold > 64).sum() < 25
assert warm.sum() < 0.7 * cold.sum()

# %% tags=["hide-input"]
figure, axes = plt.subplots(figsize=(7.5, 2.8))
norms = runs["proximal"][2]
for step in np.argmax(norms == 0, axis=0)[norms[-1] == 0] + 1:
    death = axes.axvline(step, color="#DDDDDD", linewidth=1.5)
death.set_label("a unit dies")
for name, rounds, colour in (("cold", cold, COLOURS[1]), ("warm", warm, COLOURS[0])):
    axes.plot(np.arange(1, 501), rounds, ".", color=colour, label=name, markersize=3.5)
axes.axhline(64, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)))
axes.text(495, 69, "Newton", ha="right", va="bottom", color="#555555")
axes.set(yscale="log", xlabel="step", ylabel="rounds", xlim=(0, 501), ylim=(0.8, 150))
axes.set_yticks([1, 2, 4, 10, 64, 100], ["1", "2", "4", "10", "64", "100"])
axes.minorticks_off()
axes.set_title("Rounds of each proximal step: few from a warm start, more when a unit dies")
axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
figure.savefig(FIGURES / "5_warm_start.png")

# %% [markdown]
# A typical step needs two rounds instead of four. Around the steps at which units die even a warm
# start needs more rounds, because there sweeps converge slowly.
#
# When units are removed during training, the shares have to be cut with them: one row and one
# column for each dead unit. Tutorial 6 does this.
#
# ## Exercise
#
# 1. Let there be one group with no overlap, so that $J(\tau) = \frac12 q / (1 + \tau) + \frac12
#    \lambda^2 \tau$ with $q = |v|^2$. Where is the minimum over $\tau \ge 0$, and which $w$ belongs
#    to it?
# 2. Add the barrier $-\mu \log \tau$. How does the minimum approach 0 as $\mu \to 0$ if $\lambda >
#    |v|$, and how if $\lambda = |v|$ exactly?
# 3. The learning rate is halved between two steps. May the next proximal step still start from the
#    last shares?
#
# Try to answer before you read on.
#
# ### Answer
#
# 1. The derivative $-\frac12 q / (1 + \tau)^2 + \frac12 \lambda^2$ is zero at $1 + \tau = |v| /
#    \lambda$. So $\tau = |v| / \lambda - 1$ if $|v| > \lambda$, and 0 otherwise. Then $w = v\, \tau
#    / (1 + \tau) = v\, (1 - \lambda / |v|)$: block soft-thresholding.
# 2. The derivative is now zero where $\lambda^2 - q / (1 + \tau)^2 = 2 \mu / \tau$. If $\lambda >
#    |v|$, the left side tends to $\lambda^2 - q$, and $\tau \approx 2 \mu / (\lambda^2 - q)$ is
#    proportional to $\mu$. If $\lambda = |v|$, the left side is about $2 q \tau$, and $\tau \approx
#    \sqrt{\mu / q}$ is proportional to the square root only. So at the same $\mu$ the weights of a
#    group at its critical strength are the least accurate, $|w| \approx \sqrt{\mu}$. The gap is
#    about $\mu$ there, so the error is nearly as large as its bound $\sqrt{2\,\text{gap}}$.
# 3. Yes. The old $\xi_g$ may be outside of the new, smaller balls, but the first sweep replaces
#    them by vectors in these balls.

# %%
q = 0.25  # |v| = 0.5


def barrier_minimum(strength, mu):
    """The root of the derivative, found by bisection of log(tau)."""
    low, high = -30.0, 5.0
    for _ in range(100):
        middle = (low + high) / 2
        slope = strength**2 - q / (1 + np.exp(middle)) ** 2 - 2 * mu / np.exp(middle)
        low, high = (middle, high) if slope < 0 else (low, middle)
    return np.exp(high)


tau = barrier_minimum(0.2, 1e-12)
print(f"strength 0.2: tau {tau:.4f}, factor of v {tau / (1 + tau):.4f}")
assert f"{tau:.4f}" == "1.5000"
assert f"{tau / (1 + tau):.4f}" == "0.6000"
above = barrier_minimum(0.6, 1e-8) * (0.6**2 - q) / 2e-8
at = barrier_minimum(0.5, 1e-8) / np.sqrt(1e-8 / q)
print(f"tau over its approximation: {above:.3f} above the critical strength, {at:.3f} at it")
assert abs(above - 1) < 1e-3
assert abs(at - 1) < 1e-3

params = runs["proximal"][0]
_, before = prox(params, groups, RATE * LAMBDA)
halved, from_before = prox(params, groups, RATE * LAMBDA / 2, warm_start=before.warm_start)
from_zero, cold_start = prox(params, groups, RATE * LAMBDA / 2)
apart = np.sqrt(sum(((halved[array] - from_zero[array]) ** 2).sum() for array in params))
print(f"rate halved: warm and cold results differ by {apart:.0e}")
assert max(from_before.relative_gap, cold_start.relative_gap) <= 1e-12
most = RATE * LAMBDA / 2 * group_norms(params, groups).sum()  # P(v), at least the minimum
assert apart <= 2 * np.sqrt(2 * 1e-12 * most)

# %% [markdown]
# ## What to take away
#
# - In most training steps a few sweeps are enough. Near the critical strength even a thousand are
#   not.
# - There an interior-point method takes over: Newton's method for one number for each group, with a
#   barrier. Its result carries the same certificate.
# - The subgradient method keeps units oscillating around zero; the proximal step makes them exactly
#   zero, and they can be removed without changing the loss.
# - A warm start from the last step's shares halves the rounds of a typical step. It cannot make the
#   result less accurate.
#
# ## Where to go next
#
# - [Tutorial 6](6_compaction.py) removes dead units while training goes on.
# - `issref/iss/dual.py` contains the sweeps and the Newton steps; `issref/iss/prox.py` applies them
#   to the weights.
