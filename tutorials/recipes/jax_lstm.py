# %% [markdown]
# # Remove hidden units from an LSTM in JAX (Flax NNX)
#
# The adding problem: two numbers of a sequence are marked, and the target is their sum, with some
# noise. JAX's arrays cannot be changed: the proximal step reads them without a copy, and returns
# new ones.

# %%
import jax
import numpy as np
import onnxruntime
import optax
from flax import nnx
from flax.traverse_util import unflatten_dict
from onnx import helper, numpy_helper

from issref import compact, iss_groups, prox  # ISS
from issref.verify.formats import flax
from issref.verify.formats import onnx as onnx_format
from issref.verify.formats.dialect import convert
from issref.verify.layouts import check_layout, layout_of  # ISS

UNITS, STEPS, RATE, STRENGTH = 32, 450, 1e-2, 1.0  # the strength was chosen on VALID


class Model(nnx.Module):
    def __init__(self, units, seed=0):
        self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(2, units, rngs=nnx.Rngs(seed)))
        self.head = nnx.Linear(units, 1, rngs=nnx.Rngs(seed + 1))

    def __call__(self, x):
        return self.head(self.rnn(x))


def draw(count, seed):
    rng = np.random.default_rng(seed)
    marks = rng.permuted(np.tile(np.arange(12) < 2, (count, 1)), axis=1)
    values = rng.uniform(size=(count, 12))
    y = (marks * values).sum(1, keepdims=True) + 0.1 * rng.normal(size=(count, 1))
    return np.stack([marks, values], 2).astype(np.float32), y.astype(np.float32)


def loss_of(model, data):
    return ((model(data[0])[:, -1] - data[1]) ** 2).mean()


TRAIN, VALID, TEST = draw(50, 1), draw(500, 2), draw(500, 4)


def arrays_of(model):
    return layout_of({"rnn": model.rnn, "head": model.head})[0]


def from_arrays(arrays, model=None):
    model = model or Model(len(arrays["head/kernel"]))
    nnx.update(model, unflatten_dict(jax.device_put(arrays), sep="/"))
    return model


@nnx.jit
def step(model, optimizer):
    optimizer.update(model, nnx.grad(loss_of)(model, TRAIN))


params, layout, spaces, readers = layout_of({"rnn": (model := Model(UNITS)).rnn, "head": model.head})  # ISS
check_layout(lambda arrays: from_arrays(arrays)(TEST[0][:2]), params, layout, spaces, readers, trials=1)  # ISS
groups = iss_groups(layout, spaces)  # ISS


def train(strength, seed=0):
    model = Model(UNITS, seed)
    optimizer = nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param)
    strengths = np.full(groups.count, RATE * strength)  # ISS
    for _ in range(STEPS):
        step(model, optimizer)
        shrunk, certificate = prox(arrays_of(model), groups, strengths)  # ISS
        from_arrays(shrunk, model)  # ISS
        strengths[certificate.dead] = 1e3  # ISS: more than any step, so momentum revives no unit
    return model, groups.split(~certificate.dead)


# %%
(dense, _), (pruned, alive) = train(strength=0), train(STRENGTH)
arrays, _ = compact(arrays_of(pruned), layout, alive)  # ISS
small, x = from_arrays(arrays), TEST[0]
before, after = (np.asarray(model(x)) for model in (pruned, small))

# JAX has no exporter of its own: the LSTM's graph comes from issref, the Linear is added
file = onnx_format.build(convert(arrays, flax.NNX, onnx_format.SPELLING))
linear = [("MatMul", ["lstm0/hidden", "head/kernel"], ["product"]), ("Add", ["product", "head/bias"], ["y"])]
file.graph.node.extend(helper.make_node(*each) for each in linear)
file.graph.initializer.extend(
    numpy_helper.from_array(arrays[f"head/{name}"], f"head/{name}") for name in ("kernel", "bias")
)
file.graph.output.append(helper.make_tensor_value_info("y", 1, None))
zeros = np.zeros((1, len(x), len(arrays["head/kernel"])), np.float32)
session = onnxruntime.InferenceSession(file.SerializeToString())
onnx = session.run(["y"], {"x": x.swapaxes(0, 1), "lstm0/h": zeros, "lstm0/c": zeros})[0].swapaxes(0, 1)

units = ", ".join(f"{space} {len(mask)} -> {mask.sum()}" for space, mask in alive.items())
print(f"{units}; loss on new data: dense {loss_of(dense, TEST):.4f}, with ISS {loss_of(small, TEST):.4f}")
print(f"outputs changed by {abs(after - before).max():.0e}, in ONNX Runtime by {abs(onnx - before).max():.0e}")
