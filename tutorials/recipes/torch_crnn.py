# %% [markdown]
# # Remove filters and hidden units from a CRNN in PyTorch
#
# A convolution and a bidirectional LSTM compare the marks before and after each frame of a noisy
# signal. `nn.LSTM` has as many units in both directions, so one space names both: unit k of one
# direction is removed together with unit k of the other.

# %%
import numpy as np
import onnxruntime
import torch
from torch import nn

from issref import Layout, compact, iss_groups, prox  # ISS
from issref.verify.layouts import check_layout  # ISS

UNITS, STEPS, RATE, STRENGTH = 24, 400, 1e-2, 1.5  # the strength was chosen on VALID


class Model(nn.Module):
    def __init__(self, filters, units):
        super().__init__()
        self.convolution = nn.Conv1d(4, filters, 3, padding=1)
        self.lstm = nn.LSTM(filters, units, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * units, 1)

    def forward(self, x):
        features = torch.relu(self.convolution(x.transpose(1, 2)))
        return self.head(self.lstm(features.transpose(1, 2))[0])


def draw(count, seed):
    rng = np.random.default_rng(seed)
    marks = rng.random((count, 20)) < 0.3
    x = marks[..., None] * [1, -1, 0.5, 0] + 0.4 * rng.normal(size=(count, 20, 4))
    y = (2 * marks.cumsum(1) - marks.sum(1, keepdims=True))[..., None] / 5
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


def loss_of(model, data):
    return nn.functional.mse_loss(model(data[0]), data[1])


TRAIN, VALID, TEST = draw(10, 1), draw(500, 2), draw(500, 4)


def arrays_of(model):  # shares memory; the convolution as a matrix, one row for each filter
    return {name: (t.flatten(1) if t.ndim > 2 else t).numpy() for name, t in model.state_dict().items()}


def from_arrays(arrays):
    model = Model(len(arrays["convolution.bias"]), arrays["lstm.weight_hh_l0"].shape[1])
    for name, tensor in model.state_dict().items():
        tensor[...] = torch.from_numpy(arrays[name]).view_as(tensor)
    return model


axes = {"convolution.weight": (("filter",), ("window",)), "convolution.bias": (("~filter",),)}
for way in ("l0", "l0_reverse"):
    axes |= {f"lstm.weight_ih_{way}": (4 * ("h",), ("filter",)), f"lstm.weight_hh_{way}": (4 * ("h",), ("h",))}
    axes |= {f"lstm.bias_ih_{way}": (4 * ("~h",),), f"lstm.bias_hh_{way}": (4 * ("~h",),)}
axes |= {"head.weight": (("y",), ("h", "h")), "head.bias": (("y",),)}
layout, spaces = Layout(axes, {"window": 4 * 3, "filter": UNITS, "h": UNITS, "y": 1}), ["filter", "h"]  # ISS
params, readers = arrays_of(Model(UNITS, UNITS)), [("lstm.weight_*", 1), ("head.weight", 1)]  # ISS
check_layout(lambda arrays: from_arrays(arrays)(TEST[0][:2]).detach(), params, layout, spaces, readers)  # ISS
groups = iss_groups(layout, spaces)  # ISS


def train(strength, seed=0):
    torch.manual_seed(seed)
    model = Model(UNITS, UNITS)
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
