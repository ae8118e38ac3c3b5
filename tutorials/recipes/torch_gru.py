# %% [markdown]
# # Remove hidden units from a GRU in PyTorch
#
# A GRU repeats a random sequence two steps later, from few and noisy examples. The layout is written
# by hand, as for any module of your own: the spaces along each axis of PyTorch's arrays.

# %%
import numpy as np
import onnxruntime
import torch
from torch import nn

from issref import Layout, compact, iss_groups, prox  # ISS
from issref.verify.layouts import check_layout  # ISS

UNITS, STEPS, RATE, STRENGTH = 24, 600, 1e-2, 3.0  # the strength was chosen on VALID


class Model(nn.Module):
    def __init__(self, units):
        super().__init__()
        self.gru = nn.GRU(1, units, batch_first=True)
        self.head = nn.Linear(units, 1)

    def forward(self, x):
        return self.head(self.gru(x)[0])


def draw(count, seed):
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=(count, 20)), 0.3 * rng.normal(size=(count, 20))
    y = np.pad(x, ((0, 0), (2, 0)))[:, :-2] + noise
    return torch.tensor(np.stack([x, y])[..., None], dtype=torch.float32)


def loss_of(model, data):
    return nn.functional.mse_loss(model(data[0]), data[1])


TRAIN, VALID, TEST = draw(20, 1), draw(500, 2), draw(500, 4)


def arrays_of(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}  # shares memory


def from_arrays(arrays):
    model = Model(arrays["gru.weight_hh_l0"].shape[1])
    model.load_state_dict({name: torch.from_numpy(values) for name, values in arrays.items()})
    return model


axes = {  # ISS: three gates one after the other, each over all units h; ~ is cut, but not penalised
    "gru.weight_ih_l0": (3 * ("h",), ("x",)),
    "gru.weight_hh_l0": (3 * ("h",), ("h",)),
    "gru.bias_ih_l0": (3 * ("~h",),),
    "gru.bias_hh_l0": (3 * ("~h",),),
    "head.weight": (("y",), ("h",)),
    "head.bias": (("y",),),
}
layout, spaces = Layout(axes, {"x": 1, "h": UNITS, "y": 1}), ["h"]  # ISS
params, readers = arrays_of(Model(UNITS)), [("gru.weight_hh_l0", 1), ("head.weight", 1)]  # ISS
check_layout(lambda arrays: from_arrays(arrays)(TEST[0, :2]).detach(), params, layout, spaces, readers)  # ISS
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
x = TEST[0]
torch.onnx.export(small, (x[:1],), "small.onnx", dynamo=False, input_names=["x"], dynamic_axes={"x": [0]})
onnx = onnxruntime.InferenceSession("small.onnx").run(None, {"x": x.numpy()})[0]
before, after = (model(x).detach().numpy() for model in (pruned, small))

units = ", ".join(f"{space} {len(mask)} -> {mask.sum()}" for space, mask in alive.items())
print(f"{units}; loss on new data: dense {loss_of(dense, TEST):.4f}, with ISS {loss_of(small, TEST):.4f}")
print(f"outputs changed by {abs(after - before).max():.0e}, in ONNX Runtime by {abs(onnx - before).max():.0e}")
