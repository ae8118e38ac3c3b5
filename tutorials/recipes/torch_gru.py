# %% [markdown]
# # Remove hidden units from a GRU in PyTorch
#
# A GRU continues a sequence of digits: each is the sum of the two before it, modulo 10, except some
# random ones. The layout is written by hand: the spaces along each axis of PyTorch's arrays.

# %%
import numpy as np
import onnxruntime
import torch
from torch import nn

from issref import Layout, compact, iss_groups, prox  # ISS
from issref.verify.layouts import check_layout  # ISS

UNITS, STEPS, RATE, STRENGTH = 48, 200, 1e-2, 0.3  # the strength was chosen by the loss on VALID


class Model(nn.Module):
    def __init__(self, units):
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.gru = nn.GRU(8, units, batch_first=True)
        self.head = nn.Linear(units, 10)

    def forward(self, x):
        return self.head(self.gru(self.embed(x))[0])


def draw(count, seed):
    rng = np.random.default_rng(seed)
    digits = rng.integers(0, 10, (count, 20))
    for t in range(2, 20):
        digits[:, t] = np.where(rng.random(count) < 0.9, digits[:, t - 2 : t].sum(1) % 10, digits[:, t])
    return torch.tensor(digits)


def loss_of(model, digits):
    return nn.functional.cross_entropy(model(digits[:, :-1]).transpose(1, 2), digits[:, 1:])


TRAIN, VALID, TEST = draw(100, 1), draw(500, 2), draw(500, 3)


def arrays_of(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}  # shares memory


def from_arrays(arrays):
    model = Model(arrays["gru.weight_hh_l0"].shape[1])
    model.load_state_dict({name: torch.from_numpy(values) for name, values in arrays.items()})
    return model


axes = {"embed.weight": (("digit",), ("x",)), "head.weight": (("digit",), ("h",)), "head.bias": (("digit",),)}
axes |= {"gru.weight_ih_l0": (3 * ("h",), ("x",)), "gru.weight_hh_l0": (3 * ("h",), ("h",))}  # three gates
axes |= {"gru.bias_ih_l0": (3 * ("~h",),), "gru.bias_hh_l0": (3 * ("~h",),)}  # ~: cut, not penalised
layout, spaces = Layout(axes, {"digit": 10, "x": 8, "h": UNITS}), ["h"]  # ISS
params, readers = arrays_of(Model(UNITS)), [("gru.weight_hh_l0", 1), ("head.weight", 1)]  # ISS
check_layout(lambda arrays: from_arrays(arrays)(TEST[:2]).detach(), params, layout, spaces, readers)  # ISS
groups = iss_groups(layout, spaces)  # ISS


def train(strength, seed=0):
    torch.manual_seed(seed)
    model = Model(UNITS)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    params, strengths = arrays_of(model), np.full(groups.count, RATE * strength)  # ISS
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, TRAIN).backward()
        optimizer.step()
        shrunk, certificate = prox(params, groups, strengths)  # ISS
        for name, values in params.items():  # ISS
            values[...] = shrunk[name]  # ISS
        strengths[certificate.dead] = 1e3  # ISS: more than any step, so momentum revives no unit
    return model, groups.split(~certificate.dead)


# %%
(dense, _), (pruned, alive) = train(strength=0), train(STRENGTH)
small = from_arrays(compact(arrays_of(pruned), layout, alive)[0])  # ISS
torch.onnx.export(small, (TEST[:1],), "small.onnx", dynamo=False, input_names=["x"], dynamic_axes={"x": [0]})
onnx = onnxruntime.InferenceSession("small.onnx").run(None, {"x": TEST.numpy()})[0]
before, after = (model(TEST).detach().numpy() for model in (pruned, small))

units = ", ".join(f"{space} {len(mask)} -> {mask.sum()}" for space, mask in alive.items())
print(f"{units}; loss on new data: dense {loss_of(dense, TEST):.4f}, with ISS {loss_of(small, TEST):.4f}")
print(f"outputs changed by {abs(after - before).max():.0e}, in ONNX Runtime by {abs(onnx - before).max():.0e}")
