# %% [markdown]
# # Remove hidden units from an encoder and decoder with attention in PyTorch
#
# The decoder repeats digits backwards. The attention compares units of decoder and encoder by a
# matrix, which reads both; the output layer reads both end to end.

# %%
import numpy as np
import onnxruntime
import torch
from torch import nn

from issref import Layout, compact, iss_groups, prox  # ISS
from issref.verify.layouts import check_layout  # ISS

UNITS, STEPS, RATE, STRENGTH = 32, 1500, 1e-2, 4.0  # the strength was chosen on VALID


class Model(nn.Module):
    def __init__(self, encoder, decoder):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.encoder, self.decoder = (nn.LSTM(8, n, batch_first=True) for n in (encoder, decoder))
        self.score = nn.Linear(encoder, decoder, bias=False)
        self.head = nn.Linear(decoder + encoder, 11)

    def forward(self, source, target):
        memory, queries = self.encoder(self.embed(source))[0], self.decoder(self.embed(target))[0]
        weights = torch.softmax(queries @ self.score(memory).transpose(1, 2), dim=-1)
        return self.head(torch.cat([queries, weights @ memory], dim=-1))


def draw(count, seed):
    digits = torch.tensor(np.random.default_rng(seed).integers(0, 10, (count, 4)))
    return digits, torch.cat([torch.full((count, 1), 10), digits.flip(1)], dim=1)  # 10 is the start


def loss_of(model, data):
    return nn.functional.cross_entropy(model(*data)[:, :-1].transpose(1, 2), data[1][:, 1:])


TRAIN, VALID, TEST = draw(150, 1), draw(500, 2), draw(500, 4)


def arrays_of(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}  # shares memory


def from_arrays(arrays):
    model = Model(*(arrays[f"{part}.weight_hh_l0"].shape[1] for part in ("encoder", "decoder")))
    model.load_state_dict({name: torch.from_numpy(values) for name, values in arrays.items()})
    return model


axes = {"embed.weight": (("digit",), ("x",)), "head.bias": (("digit",),)}
for part in ("encoder", "decoder"):
    axes |= {f"{part}.weight_ih_l0": (4 * (part,), ("x",)), f"{part}.weight_hh_l0": (4 * (part,), (part,))}
    axes |= {f"{part}.bias_ih_l0": (4 * ("~" + part,),), f"{part}.bias_hh_l0": (4 * ("~" + part,),)}
axes |= {"score.weight": (("decoder",), ("encoder",)), "head.weight": (("digit",), ("decoder", "encoder"))}
layout = Layout(axes, {"digit": 11, "x": 8, "encoder": UNITS, "decoder": UNITS})  # ISS
params, spaces = arrays_of(Model(UNITS, UNITS)), ["encoder", "decoder"]  # ISS
readers = [("*.weight_hh_l0", 1), ("head.weight", 1), ("score.weight", 0), ("score.weight", 1)]  # ISS
check_layout(lambda arrays: from_arrays(arrays)(*TEST).detach(), params, layout, spaces, readers)  # ISS
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
axes = {"x": [0], "y": [0]}
torch.onnx.export(small, TEST, "small.onnx", dynamo=False, input_names=[*axes], dynamic_axes=axes)
onnx = onnxruntime.InferenceSession("small.onnx").run(None, {"x": TEST[0].numpy(), "y": TEST[1].numpy()})[0]
before, after = (model(*TEST).detach().numpy() for model in (pruned, small))

units = ", ".join(f"{space} {len(mask)} -> {mask.sum()}" for space, mask in alive.items())
print(f"{units}; loss on new data: dense {loss_of(dense, TEST):.4f}, with ISS {loss_of(small, TEST):.4f}")
print(f"outputs changed by {abs(after - before).max():.0e}, in ONNX Runtime by {abs(onnx - before).max():.0e}")
