# %% [markdown]
# # Remove hidden units from an LSTM with LayerNorm in PyTorch
#
# A LayerNorm over units changes with their number: no layout is right for it, and `check_layout`
# reports this. What you can do is normalise over the units that are left. The function then changes
# each time a unit dies, and training adapts to it. The result is a smaller `nn.LayerNorm`.

# %%
import numpy as np
import onnxruntime
import torch
from torch import nn

from issref import Layout, compact, iss_groups, prox  # ISS
from issref.verify.layouts import check_layout, layout_of  # ISS

UNITS, STEPS, RATE, STRENGTH = 32, 400, 1e-2, 2.0  # the strength was chosen on VALID


class Model(nn.Module):
    alive = None

    def __init__(self, units):
        super().__init__()
        self.lstm, self.norm = nn.LSTM(1, units, batch_first=True), nn.LayerNorm(units)
        self.head = nn.Linear(units, 1)

    def forward(self, x):
        h, norm, left = self.lstm(x)[0], self.norm, self.alive
        if left is None:
            return self.head(norm(h))
        h = nn.functional.layer_norm(h[..., left], (int(left.sum()),), norm.weight[left], norm.bias[left])
        return nn.functional.linear(h, self.head.weight[:, left], self.head.bias)


def draw(count, seed):
    rng, time = np.random.default_rng(seed), np.arange(20)
    phases, noise = rng.uniform(0, 2 * np.pi, (2, count, 1)), 0.3 * rng.normal(size=(count, 20))
    x = np.sin(0.5 * time + phases[0]) + np.sin(1.3 * time + phases[1]) + noise
    return torch.tensor(x[..., None], dtype=torch.float32)


def loss_of(model, x):
    return nn.functional.mse_loss(model(x[:, :-1]), x[:, 1:])


TRAIN, VALID, TEST = draw(20, 1), draw(500, 2), draw(500, 4)


def arrays_of(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}  # shares memory


def from_arrays(arrays):
    model = Model(arrays["lstm.weight_hh_l0"].shape[1])
    model.load_state_dict({name: torch.from_numpy(values) for name, values in arrays.items()})
    return model


model = Model(UNITS)
params, layout, spaces, readers = layout_of({"lstm": model.lstm, "head": model.head})  # ISS
layout = Layout({**layout.axes, "norm.weight": (("~lstm_l0",),), "norm.bias": (("~lstm_l0",),)}, layout.sizes)
try:
    check_layout(lambda arrays: from_arrays(arrays)(TEST[:2]).detach(), arrays_of(model), layout, spaces, readers)
except ValueError as error:
    print(error)
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
        model.alive = torch.from_numpy(~certificate.dead)  # ISS: normalise over what is left
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
