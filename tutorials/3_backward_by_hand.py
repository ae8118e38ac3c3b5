# %% [markdown]
# # 3. Backward by hand
#
# Training needs the gradient of the loss with respect to every weight. Frameworks compute it
# automatically. Here we derive it by hand, for an LSTM through time. This shows how gradients pass
# through a unit, and the code is short and can be checked to the last digits.
#
# **You will learn** the rule by which every backward pass in issref is written; how to derive the
# backward pass of an LSTM, from the equations to the code; how to check a derivative with a complex
# number; what truncated backpropagation through time leaves out; and how to recognise common
# mistakes by their errors.
#
# **You need** the chain rule and the equations of [tutorial 1](1_one_unit.py). It takes about 65
# minutes to read, with the exercise, and seconds to run. Numbers about our own networks are
# computed below, and most are checked by an `assert`.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from issref.models import ptb_lstm
from issref.ops.lstm import lstm as issref_lstm
from issref.report import COLOURS, STYLE
from issref.verify.gradcheck import check_backward, complex_step, relative_error
from issref.verify.suite.mistakes import MISTAKES
from issref.verify.suite.naive_lstm import naive_lstm

plt.rcParams.update(STYLE | {"figure.dpi": 110, "savefig.dpi": 160})
FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
# ## One rule
#
# Let $L$ be the loss, a single number at the end of a long computation. For any intermediate array
# $y$ write $\mathrm{d}y$ for the gradient of $L$ with respect to $y$: an array of the same shape,
# with the entries $\partial L / \partial y_k$. Take one step of the computation, $y = f(x, W)$.
# Small changes $\delta x$ and $\delta W$ cause a change $\delta y$, and to first order $L$ changes
# by $\langle \mathrm{d}y, \delta y \rangle$, the sum of the products of their entries. **To go
# backward through $f$, write this number as $\langle \mathrm{d}x, \delta x \rangle + \langle
# \mathrm{d}W, \delta W \rangle$, and read off $\mathrm{d}x$ and $\mathrm{d}W$.** Nothing else about
# the rest of the network is needed.
#
# For the linear map $y = x W + b$, with one example in each row of $x$, to first order $\delta y =
# \delta x\, W + x\, \delta W + \delta b$, and
#
# $$\langle \mathrm{d}y,\; \delta x\, W + x\, \delta W + \delta b \rangle
#   = \langle \mathrm{d}y\, W^\top, \delta x \rangle + \langle x^\top \mathrm{d}y, \delta W \rangle
#   + \Big\langle \sum_{\text{rows}} \mathrm{d}y,\; \delta b \Big\rangle .$$
#
# (The first terms on both sides are $\sum_{n,d,k} \mathrm{d}y_{nk}\, \delta x_{nd}\, W_{dk}$,
# summed in another order; the others are found in the same way.) So $\mathrm{d}x = \mathrm{d}y\,
# W^\top$, $\mathrm{d}W = x^\top \mathrm{d}y$ and $\mathrm{d}b = \sum \mathrm{d}y$. (To remember the
# order of the factors: if all sizes differ, only one order gives each gradient the shape of its
# array.) In code, a function returns its output and a second function, `backward`, which keeps the
# arrays that it needs.


# %%
def linear(x, W, b):
    def backward(dy):
        return dy @ W.T, x.T @ dy, dy.sum(axis=0)

    return x @ W + b, backward


# %% [markdown]
# Two more rules. If a value is used *twice*, its gradient is the *sum* of two gradients. And
# `backward` does not accumulate gradients: it returns them, and the caller adds them.
#
# ## How to check: the complex step
#
# Every gradient needs a check. The obvious check is a difference quotient, $(f(x + h) - f(x)) / h$.
# (In this section, $f$ is any function, $h$ a small number and $i$ the imaginary unit; in the next
# section they are two gates and the output again.) It has two errors. For large $h$ the function is
# not linear. For small $h$ the two values agree in nearly all digits, and subtracting them leaves
# few correct ones.
#
# The complex step avoids the subtraction. Add $ih$ instead of $h$:
#
# $$f(x + i h) = f(x) + i h\, f'(x) - \tfrac12 h^2 f''(x) - \ldots, \qquad\text{so}\qquad
#   f'(x) \approx \frac{\operatorname{Im} f(x + i h)}{h} .$$
#
# The imaginary part contains the derivative alone. Nothing cancels, so $h$ can be $10^{-30}$, and
# the error of the formula, of order $h^2$, is negligible. But $f$ must be real for real arguments,
# and consist of analytic functions: sums, products, exp and tanh are allowed; a maximum, an
# absolute value or a comparison is not.


# %%
def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def f(x):
    return sigmoid(x) * np.tanh(x)


x = 0.7
exact = sigmoid(x) * (1 - sigmoid(x)) * np.tanh(x) + sigmoid(x) * (1 - np.tanh(x) ** 2)
sizes = 10.0 ** np.arange(-20, 0.1, 0.5)
methods = {
    "forward difference": [(f(x + h) - f(x)) / h for h in sizes],
    "central difference": [(f(x + h) - f(x - h)) / (2 * h) for h in sizes],
    "complex step": [np.imag(f(x + 1j * h)) / h for h in sizes],
}
errors = {name: np.abs(np.array(slopes) / exact - 1) for name, slopes in methods.items()}
for name, error in errors.items():
    print(f"{name:20} best relative error {error.min():.0e}, at h = 1e-20: {error[0]:.0e}")
assert 1e-10 < errors["forward difference"].min() < 1e-7
assert 1e-13 < errors["central difference"].min() < 1e-9
assert errors["complex step"][0] < 1e-15
assert errors["central difference"][0] == 1  # the difference of the two values is 0

# %% tags=["hide-input"]
figure, axes = plt.subplots(figsize=(7.5, 2.9))
for (name, error), colour in zip(errors.items(), (COLOURS[4], COLOURS[1], COLOURS[0]), strict=True):
    axes.plot(sizes, np.maximum(error, 1e-17), color=colour, label=name)
axes.set(xscale="log", yscale="log", xlabel="h", ylabel="relative error", ylim=(3e-18, 10))
axes.set_title("Error of a derivative by the size of the step (0 drawn at 1e-17)")
axes.legend(frameon=False, loc="center left", bbox_to_anchor=(0.05, 0.4))
figure.savefig(FIGURES / "3_complex_step.png")

# %% [markdown]
# To check a function with many outputs and a `backward` (an *op*), draw a random gradient
# $\mathrm{d}y$ for each output. This defines a loss, $L = \sum \langle \mathrm{d}y, y \rangle$, and
# `backward` should return its gradient with respect to the arguments. We compare it with the
# complex step, entry by entry. (`issref.verify.gradcheck` contains this check and some more; every
# op in issref is tested with it.)


# %%
def all_of(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def largest_errors(op, **arguments):
    """Return the largest error of each gradient, relative to its largest entry."""
    rng = np.random.default_rng(1)
    outputs, backward = op(*arguments.values())
    given = [rng.normal(size=output.shape) for output in all_of(outputs)]

    def loss(changed):
        outputs, _ = op(*changed.values())
        return sum((d * y).sum() for d, y in zip(given, all_of(outputs), strict=True))

    result = {}
    for (name, values), gradient in zip(arguments.items(), backward(*given), strict=True):
        slopes = np.zeros(values.shape)
        for index in np.ndindex(values.shape):
            moved = values.astype(complex)
            moved[index] += 1e-30j
            slopes[index] = np.imag(loss(arguments | {name: moved})) / 1e-30
        result[name] = np.abs(gradient - slopes).max() / np.abs(slopes).max()
    return result


def show(errors):
    print("  ".join(f"{name} {error:.0e}" for name, error in errors.items()))


rng = np.random.default_rng(0)
D, H, B, T = 3, 4, 2, 6  # input, hidden units, sentences, time steps
kernel, bias = rng.normal(0, 0.7, (D + H, 4 * H)), rng.normal(0, 0.7, 4 * H)
checked = largest_errors(linear, x=rng.normal(size=(B, D + H)), W=kernel, b=bias)
show(checked)
assert max(checked.values()) < 1e-14

# %% [markdown]
# ## The cell
#
# One step of an LSTM is a linear map, $a = [x_t, h_{t-1}]\, K + b$, whose backward we have,
# followed by the *cell*. It turns the preactivations $a = [a_i, a_g, a_f, a_o]$ into activations,
# and these into the new state, $c = c_t$ and $h = h_t$:
#
# $$i = \sigma(a_i), \quad g = \tanh(a_g), \quad f = \sigma(a_f), \quad o = \sigma(a_o), \qquad
#   c = f\, c_{t-1} + i\, g, \qquad h = o\, \tanh(c).$$
#
# Now backward. Two gradients arrive, $\mathrm{d}h$ and $\mathrm{d}c$; the second because the next
# step uses $c$ as well. All products are entry by entry, so the gradient of each factor is the
# arriving gradient times the other factor:
#
# - from $h = o\, \tanh(c)$: $\;\mathrm{d}o = \mathrm{d}h \tanh(c)$, and $c$ is used here *too*, so
#   its total gradient is $\mathrm{d}c + \mathrm{d}h\, o\, (1 - \tanh^2 c)$. Call this $\mathrm{d}c$
#   from now on.
# - from $c = f\, c_{t-1} + i\, g$: $\;\mathrm{d}f = \mathrm{d}c\, c_{t-1}$,
#   $\;\mathrm{d}c_{t-1} = \mathrm{d}c\, f$, $\;\mathrm{d}i = \mathrm{d}c\, g$,
#   $\;\mathrm{d}g = \mathrm{d}c\, i$.
# - from the gates: $\sigma' = \sigma (1 - \sigma)$ and $\tanh' = 1 - \tanh^2$, both expressed by
#   values that the forward pass has already computed: $\mathrm{d}a_i = \mathrm{d}i\; i\, (1 - i)$,
#   $\;\mathrm{d}a_g = \mathrm{d}g\, (1 - g^2)$, and so on.


# %%
def cell(a, c_before):
    a_i, a_g, a_f, a_o = np.split(a, 4, axis=1)
    i, g, f, o = sigmoid(a_i), np.tanh(a_g), sigmoid(a_f), sigmoid(a_o)
    c = f * c_before + i * g
    squashed = np.tanh(c)

    def backward(dh, dc):
        do = dh * squashed
        dc = dc + dh * o * (1 - squashed**2)
        di, dg, df = dc * g, dc * i, dc * c_before
        da = (di * i * (1 - i), dg * (1 - g**2), df * f * (1 - f), do * o * (1 - o))
        return np.concatenate(da, axis=1), dc * f

    return (o * squashed, c), backward


a, c_before = rng.normal(size=(B, 4 * H)), rng.normal(size=(B, H))
checked = largest_errors(cell, a=a, c_before=c_before)
show(checked)
assert max(checked.values()) < 1e-14

# %% [markdown]
# ## Through time
#
# In a sequence the cell is applied once for each of $T$ words. Each step passes two values to the
# next, $h$ and $c$, and receives two gradients from it. The gradient that arrives at $h_t$ has two
# parts: one from the layer that reads the output at time $t$, and one from step $t + 1$. The same
# kernel is used $T$ times, so its gradient is a sum over all steps.

# %% tags=["hide-input"]
figure, axes = plt.subplots(figsize=(8.6, 3.3))
forward = {"arrowstyle": "->", "color": "#444444", "linewidth": 1.2}
back = {"arrowstyle": "->", "color": COLOURS[1], "linewidth": 1.6}
for step in range(4):
    left = 3 * step
    axes.add_patch(plt.Rectangle((left, 0), 1.4, 1.6, facecolor="#DCE9F2", edgecolor="#555555"))
    axes.text(left + 0.7, 0.8, f"step {step + 1}", ha="center", va="center")
    for height, name in ((1.25, "c"), (0.55, "h")):
        axes.annotate("", (left + 3, height), (left + 1.4, height), arrowprops=forward)
        axes.text(left + 2.2, height + 0.08, f"${name}_{step + 1}$", ha="center", fontsize=8.5)
        if step != 1:
            axes.annotate("", (left + 1.4, height - 0.2), (left + 3, height - 0.2), arrowprops=back)
    for place, offset in ((0.55, 0), (0.85, 0.3)):
        up, down = (1.6, 2.5), (-0.9, 0)
        ways = (up, down) if offset == 0 else (up[::-1], down[::-1])
        for start, stop in ways:
            line = forward if offset == 0 else back
            axes.annotate("", (left + place, stop), (left + place, start), arrowprops=line)
    axes.text(left + 0.45, 2.15, f"$h_{step + 1}$", ha="right", fontsize=8.5)
    axes.text(left + 0.45, -0.6, f"$x_{step + 1}$", ha="right", fontsize=8.5)
axes.axvline(5.55, ymax=0.86, color="#777777", linestyle=(0, (4, 3)), linewidth=1)
axes.text(5.65, 2.7, "end of a window: values continue, gradients do not", color="#555555")
axes.plot([], [], color="#444444", label="forward: values")
axes.plot([], [], color=COLOURS[1], label="backward: gradients")
axes.legend(frameon=False, loc="upper left", ncols=2)
axes.set(xlim=(-0.3, 12.2), ylim=(-1, 3.5), aspect="equal")
axes.axis("off")
figure.savefig(FIGURES / "3_through_time.png")

# %% [markdown]
# (A later section explains the dashed line.) The forward pass stores the backward function of each
# step in a list; the backward pass goes through the list from its end.


# %%
def lstm(x, h, c, kernel, bias):
    hidden, backs = [], []
    for x_t in x:
        a, linear_back = linear(np.concatenate((x_t, h), axis=1), kernel, bias)
        (h, c), cell_back = cell(a, c)
        hidden.append(h)
        backs.append((linear_back, cell_back))

    def backward(dhidden, dh, dc):
        dx, dkernel, dbias = np.zeros(x.shape), 0, 0
        for t in reversed(range(len(x))):
            linear_back, cell_back = backs[t]
            da, dc = cell_back(dhidden[t] + dh, dc)  # from the layer above, and from step t + 1
            drow, dkernel_t, dbias_t = linear_back(da)
            dx[t], dh = drow[:, : x.shape[2]], drow[:, x.shape[2] :]
            dkernel, dbias = dkernel + dkernel_t, dbias + dbias_t
        return dx, dh, dc, dkernel, dbias

    return (np.array(hidden), h, c), backward


arguments = {
    "x": rng.normal(size=(T, B, D)), "h": rng.normal(size=(B, H)), "c": rng.normal(size=(B, H)),
    "kernel": kernel, "bias": bias,
}  # fmt: skip
checked = largest_errors(lstm, **arguments)
show(checked)
assert max(checked.values()) < 1e-13

# %% [markdown]
# This is the LSTM with all its gradients, in 40 lines. `issref.ops.lstm` computes the same,
# organised for speed: the products with $x$ for all steps at once, the cell in a compiled loop, and
# the kernel's gradient as one product at the end.

# %%
ends = rng.normal(size=(T, B, H)), *rng.normal(size=(2, B, H))
found = []
for op in (lstm, issref_lstm):
    outputs, backward = op(*arguments.values())
    found.append((*outputs, *backward(*ends)))
apart = max(np.abs(ours - theirs).max() for ours, theirs in zip(*found, strict=True))
print(f"outputs and gradients differ from issref's by at most {apart:.0e}")
assert apart < 1e-13
check_backward(lstm, list(arguments.values()))  # issref's own check raises no error

# %% [markdown]
# ## The whole language model
#
# The loss is still missing. For the logits $y$ of one word, with $k$ the next word of the text, it
# is minus the logarithm of the probability that the softmax gives to $k$, $\ell = \log \sum_j
# e^{y_j} - y_k$. Hence, with $[j = k]$ for 1 if $j = k$ and 0 otherwise,
#
# $$\frac{\partial \ell}{\partial y_j} = \frac{e^{y_j}}{\sum_m e^{y_m}} - [j = k]:$$
#
# the probabilities, less 1 at the right word. The loss is summed over the time steps and averaged
# over the sentences in the batch. This is the paper's convention, on which learning rates and
# strengths depend. The embedding selects rows of a table, so its backward adds each gradient to the
# selected row. It has to *add*, because a word may occur twice.
#
# The model's backward is its forward in reverse order.


# %%
def cross_entropy(y, targets):
    steps, batch = np.indices(targets.shape)
    exps = np.exp(y)  # for small logits only; in general, subtract the largest logit first

    def backward(dloss):
        dy = exps / exps.sum(axis=2, keepdims=True)
        dy[steps, batch, targets] -= 1
        return dloss * dy / targets.shape[1]

    losses = np.log(exps.sum(axis=2)) - y[steps, batch, targets]
    return losses.sum() / targets.shape[1], backward


def model(params, state, tokens, targets):
    x = params["embed/kernel"][tokens]
    (hidden, h, c), lstm_back = lstm(x, *state, params["lstm0/kernel"], params["lstm0/bias"])
    rows = hidden.reshape(-1, hidden.shape[2])
    y, linear_back = linear(rows, params["softmax/kernel"], params["softmax/bias"])
    loss, loss_back = cross_entropy(y.reshape(*tokens.shape, -1), targets)

    def backward(dloss, dh, dc):
        grads, dy = {}, loss_back(dloss)
        dhidden, grads["softmax/kernel"], grads["softmax/bias"] = linear_back(dy.reshape(y.shape))
        dhidden = dhidden.reshape(hidden.shape)
        dx, dh, dc, grads["lstm0/kernel"], grads["lstm0/bias"] = lstm_back(dhidden, dh, dc)
        grads["embed/kernel"] = np.zeros(params["embed/kernel"].shape)
        np.add.at(grads["embed/kernel"], tokens, dx)
        return grads, (dh, dc)

    return (loss, (h, c)), backward


V, STEPS = 7, 24
config = ptb_lstm.Config(vocabulary=V, embed_size=D, hidden_sizes=(H,))
layout = ptb_lstm.layout(config)
params = {array: rng.normal(0, 0.7, layout.shape(array)) for array in layout.axes}
text = rng.integers(0, V, (STEPS + 1, B))
tokens, targets = text[:-1], text[1:]
zero = (np.zeros((B, H)), np.zeros((B, H)))

(loss, _), backward = model(params, zero, tokens, targets)
grads, _ = backward(1.0, *zero)

slopes = complex_step(lambda changed: model(changed, zero, tokens, targets)[0][0], params)
worst = max(relative_error({array: grads[array]}, {array: slopes[array]}) for array in grads)

no_state = ptb_lstm.state_layout(layout, B).allocate()
(same, _), their_backward = ptb_lstm.loss(params, no_state, tokens=tokens, targets=targets)
their_grads, _ = their_backward(1.0)
apart = max(np.abs(grads[array] - their_grads[array]).max() for array in grads)
entries = sum(gradient.size for gradient in grads.values())
print(f"{entries} derivatives, largest relative error {worst:.0e}, from issref's {apart:.0e}")
assert entries == layout.parameters() == 184
assert worst < 1e-13
assert apart < 1e-12
assert abs(loss - same) < 1e-12

# %% [markdown]
# ## What truncation leaves out
#
# A text may have a million words. One backward pass through all of it would keep too many arrays in
# memory, and the weights would change only once per reading. So the text is read in *windows*. The
# state at the end of one window is the start of the next, so *values* pass through the whole text.
# But the backward pass starts at the end of each window, with $\mathrm{d}h = \mathrm{d}c = 0$. This
# is *truncated* backpropagation through time, the dashed line in the figure.
#
# Divide our 24 time steps into two windows of 12. If the second window's `backward` passes its
# $\mathrm{d}h$ and $\mathrm{d}c$ to the first, the sum of both gradients is the gradient of the
# whole text. If zeros are passed instead, one part is missing: the effect of the weights on the
# second window's loss through the state with which that window starts.

# %%
HALF = STEPS // 2
(first_loss, state), first_back = model(params, zero, tokens[:HALF], targets[:HALF])
(second_loss, _), second_back = model(params, state, tokens[HALF:], targets[HALF:])
second, arriving = second_back(1.0, *zero)
connected, _ = first_back(1.0, *arriving)
cut, _ = first_back(1.0, *zero)


def relative(found, expected):
    """Return the length of the difference of two gradients, relative to the second one."""
    differences = sum(((found[array] - expected[array]) ** 2).sum() for array in expected)
    return np.sqrt(differences / sum((expected[array] ** 2).sum() for array in expected))


whole = {array: connected[array] + second[array] for array in grads}
truncated = {array: cut[array] + second[array] for array in grads}
print(f"losses: {first_loss:.4f} + {second_loss:.4f} = {loss:.4f}")
print(f"gradients passed on: differs from the whole text's by {relative(whole, grads):.0e}")
print(f"truncated:           differs from the whole text's by {relative(truncated, grads):.3f}")
assert abs(first_loss + second_loss - loss) < 1e-12
assert relative(whole, grads) < 1e-14
assert 0.005 < relative(truncated, grads) < 0.05

# %% [markdown]
# Truncation is not an error in the code. The truncated gradient is the *exact* gradient of another
# function: the sum of the windows' losses, each with its initial state held constant. (A numerical
# check has to hold that state constant, too.)
#
# How much is lost depends on how far back the network remembers. Along $c$ a gradient is multiplied
# by the forget gate at every step, $\mathrm{d}c_{t-1} = \mathrm{d}c\, f$. With forget gates near
# one half little remains after 20 steps. With a larger bias of the forget gate the memory is
# longer. We take a loss that depends on the last output only, and compute its gradient with respect
# to the state $k$ steps earlier.

# %%
LONG = 60
long_x = rng.normal(size=(LONG, B, D))
small_kernel = kernel * 0.5


def memory(forget_bias):
    """Return the length of the gradient with respect to (h, c), for 1 to LONG steps back."""
    shifted = bias * 0.5 + np.repeat([0, 0, forget_bias, 0], H)
    state, backs, found = zero, [], []
    for t in range(LONG):
        (_, *state), backward = lstm(long_x[t : t + 1], *state, small_kernel, shifted)
        backs.append(backward)
    dh, dc = np.ones((B, H)), np.zeros((B, H))
    for backward in reversed(backs):
        _, dh, dc, _, _ = backward(np.zeros((1, B, H)), dh, dc)
        found.append(np.sqrt((dh**2).sum() + (dc**2).sum()))
    return np.array(found) / found[0]


remaining = {forget_bias: memory(forget_bias) for forget_bias in (0, 1, 2, 4)}
print("gradient 20 steps back, relative to one step back:")
for forget_bias, gradient in remaining.items():
    print(f"forget bias + {forget_bias}: {gradient[19]:.5f}")
assert remaining[0][19] < 1e-3 < 0.1 < remaining[4][19]
assert remaining[4][19:].min() > 1

# %% tags=["hide-input"]
figure, axes = plt.subplots(figsize=(7.5, 3.0))
for (forget_bias, gradient), colour in zip(remaining.items(), COLOURS, strict=False):
    axes.plot(np.arange(1, LONG + 1), gradient, color=colour, label=f"{forget_bias}")
axes.axvline(20, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)))
axes.text(20.5, 3e-12, "a window of 20 words", color="#555555")
axes.set(yscale="log", xlabel="steps back", xlim=(0, LONG), ylim=(1e-12, 3))
axes.set_title("Gradient with respect to earlier states, relative to one step back")
outside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
axes.legend(title="added to the\nforget bias", frameon=False, **outside)
figure.savefig(FIGURES / "3_memory.png")

# %% [markdown]
# With the largest bias the gradient does not vanish: 20 to 60 steps back it is larger than one step
# back. (Every forget gate is below 1, so the growth comes through $h$.) A window of 20 words leaves
# out everything before these 20 steps.

# %% [markdown]
# ## Common mistakes and their errors
#
# issref has a list of common mistakes in implementations of an LSTM (tutorial 10 uses all of them).
# We take eight that affect the gradient only: the outputs, and so the loss, are right, and no error
# is raised. For each mistake we compute the relative error of every gradient, in two tests. The
# thorough test has six steps, five sentences, nonzero states, and gradients at *all* outputs. The
# quick test has one step, one sentence, zero states, and a gradient at `hidden` alone, none at the
# final $h$ and $c$.

# %%
EIGHT = [
    "gradient not carried through h",
    "gradient not carried through c",
    "slope of tanh(c) left out of the gradient",
    "gradient arriving at c left out",
    "dkernel from h_t instead of h_{t-1}",
    "dbias counted twice",
    "weight gradients averaged over the batch",
    "gradients of the gates in the order input, forget, candidate, output (PyTorch, Keras)",
]
GRADIENTS = ("dx", "dh0", "dc0", "dkernel", "dbias")


def inputs_of(steps, batch, scale):
    draw = np.random.default_rng(5).normal
    state, end = draw(size=(2, batch, H)) * scale, draw(size=(2, batch, H)) * scale
    return {
        "x": draw(size=(steps, batch, D)), "h0": state[0], "c0": state[1],
        "kernel": kernel, "bias": bias,
        "dhidden": draw(size=(steps, batch, H)), "dh": end[0], "dc": end[1],
    }  # fmt: skip


def errors_of(mistake, inputs):
    right, wrong = naive_lstm(inputs), MISTAKES[mistake](inputs, {})
    assert np.array_equal(right["hidden"], wrong["hidden"])  # the forward pass is right
    return [np.abs(wrong[d] - right[d]).max() / np.abs(right[d]).max() for d in GRADIENTS]


tests = {
    "thorough": inputs_of(steps=6, batch=5, scale=1),
    "quick": inputs_of(steps=1, batch=1, scale=0),
}
tables, detected = {}, {}
for name, inputs in tests.items():
    tables[name] = np.array([errors_of(mistake, inputs) for mistake in EIGHT])
for name, table in tables.items():
    by_any, by_weights = (table.max(axis=1) > 1e-12).sum(), (table[:, 3:].max(axis=1) > 1e-12).sum()
    detected[name] = [int(by_any), int(by_weights)]
    print(f"{name:10}: {by_any} of 8 found, {by_weights} of 8 in the weight gradients alone")
assert detected["thorough"] == [8, 8]
assert detected["quick"] == [6, 4]

# %% tags=["hide-input"]
figure, panels = plt.subplots(1, 2, figsize=(8.6, 3.1), sharey=True)
for axes, (name, table) in zip(panels, tables.items(), strict=True):
    axes.pcolormesh(np.log10(np.maximum(table, 1e-4)), cmap="Oranges", vmin=-4, vmax=2)
    for (row, column), error in np.ndenumerate(table):
        axes.text(column + 0.5, row + 0.5, f"{error:.2f}", ha="center", va="center", fontsize=8)
    axes.set(title=f"test: {name}", ylim=(8, 0))
    axes.set_xticks(np.arange(5) + 0.5, GRADIENTS)
    axes.tick_params(length=0, grid_alpha=0)
    axes.set_frame_on(False)
names = [*EIGHT[:-1], "gradients of the gates in PyTorch's order"]
names[4] = "dkernel from $h_t$ instead of $h_{t-1}$"
panels[0].set_yticks(np.arange(8) + 0.5, names)
figure.suptitle("Relative error of each gradient (rows: one mistake each)", fontsize=9.5)
figure.savefig(FIGURES / "3_mistakes.png")

# %% [markdown]
# Some rows identify the mistake: if the bias gradient is counted twice, `dbias` is wrong by exactly
# 1.00 and all other gradients are right; averaging over five sentences makes both `dkernel` and
# `dbias` wrong by 0.80. If a gradient is not carried through time, every gradient of the thorough
# test is wrong, but in the quick test only `dh0` or `dc0` is. The quick test misses two of the
# eight mistakes even if all gradients are compared, and half of them if only `dkernel` and `dbias`
# are compared. So a test needs
#
# - more than one step and more than one sentence;
# - gradients at every output, the final $h$ and $c$ included;
# - a comparison of *all* gradients, including the initial state's, with a tight tolerance.
#
# Other mistakes of the list need nonzero states and biases as well: if a state or a bias is zero, a
# test does not show that it is left out.

# %%
twice = tables["thorough"][EIGHT.index("dbias counted twice")]
average = tables["thorough"][EIGHT.index("weight gradients averaged over the batch")]
print("dbias counted twice:", " ".join(f"{error:.2f}" for error in twice))
print("averaged over the batch:", " ".join(f"{error:.2f}" for error in average))
assert (tables["thorough"][:2] > 1e-12).all()
assert np.argwhere(tables["quick"][:2] > 1e-12).tolist() == [[0, 1], [1, 2]]  # dh0 and dc0
assert [f"{error:.2f}" for error in twice] == ["0.00", "0.00", "0.00", "0.00", "1.00"]
assert [f"{error:.2f}" for error in average] == ["0.00", "0.00", "0.00", "0.80", "0.80"]

# %% [markdown]
# ## Exercise
#
# Some LSTMs have no separate forget gate, but use $f = 1 - i$. (Tutorial 7 describes a similar
# network.) The kernel keeps its four blocks, but the third one is not used.
#
# 1. Which lines of `cell` change, forward and backward?
# 2. What is the gradient of the third block?
# 3. Implement it, and check it by the complex step.
#
# Try to answer before you read on.
#
# ### Answer
#
# Forward, the line of the gates: $f = 1 - i$ replaces $\sigma(a_f)$. Backward, $i$ is now used
# twice, so $\mathrm{d}i = \mathrm{d}c\, g - \mathrm{d}c\, c_{t-1}$, and the third block's gradient
# is exactly zero. $\mathrm{d}c_{t-1} = \mathrm{d}c\, f$ as before.


# %%
def coupled_cell(a, c_before):
    a_i, a_g, _, a_o = np.split(a, 4, axis=1)
    i, g, o = sigmoid(a_i), np.tanh(a_g), sigmoid(a_o)
    f = 1 - i
    c = f * c_before + i * g
    squashed = np.tanh(c)

    def backward(dh, dc):
        do = dh * squashed
        dc = dc + dh * o * (1 - squashed**2)
        di, dg = dc * g - dc * c_before, dc * i
        da = (di * i * (1 - i), dg * (1 - g**2), np.zeros(i.shape), do * o * (1 - o))
        return np.concatenate(da, axis=1), dc * f

    return (o * squashed, c), backward


checked = largest_errors(coupled_cell, a=a, c_before=c_before)
show(checked)
assert max(checked.values()) < 1e-14
_, coupled_back = coupled_cell(a, c_before)
da, _ = coupled_back(*rng.normal(size=(2, B, H)))
third_block = np.split(da, 4, axis=1)[2]
print(f"nonzero entries in the gradient of the third block: {np.count_nonzero(third_block)}")
assert np.count_nonzero(third_block) == 0

# %% [markdown]
# ## What to take away
#
# - To go backward through a step, write the change of the loss as inner products with the changes
#   of the arguments, and read off the gradients. The gradient of a value that is used twice is a
#   sum.
# - The backward pass of an LSTM goes through time along $h$ and $c$, and sums the kernel's gradient
#   over all steps.
# - The complex step checks it to the last digits, because there is no subtraction.
# - The truncated gradient is the exact gradient of the sum of the windows' losses, each with its
#   initial state held constant.
# - One step, one sentence, or no gradient at the final $c$ can hide mistakes from a test.
#
# The training loop combines the gradient of the loss with the penalty: as a sum of two gradients,
# or in two steps, one after the other.
#
# ## Where to go next
#
# - [Tutorial 4](4_proximal_steps.py) combines the two in a step that makes exact zeros.
# - `issref/ops/lstm.py` is the optimised version of `lstm`. Its loops are in
#   `issref/kernels/reference.py` (NumPy) and `issref/kernels/jitted/` (compiled).
