# %% [markdown]
# # Remove hidden units from an LSTM in Keras 3
#
# Keras trains in `fit`, so the proximal step is a callback after each batch. It assigns to Keras'
# variables, which works on every backend; here on PyTorch's.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
import numpy as np
import onnxruntime

from issref import compact, iss_groups, prox  # ISS
from issref.verify.layouts import check_layout, layout_of  # ISS

UNITS, EPOCHS, RATE, STRENGTH = 24, 400, 1e-2, 3.5  # the strength was chosen on VALID


def Model(units):
    layers = keras.layers
    lstm, head = layers.LSTM(units, name="lstm"), layers.Dense(3, name="head")
    return keras.Sequential([keras.Input((12, 1)), lstm, head], name="model")


def draw(count, seed):
    rng = np.random.default_rng(seed)
    kind, wave = rng.integers(0, 3, count), rng.uniform(0, 7, (count, 1)) + np.arange(12)
    shapes = np.stack([np.sin(wave), np.sign(np.sin(wave)), wave / np.pi % 2 - 1])
    x = shapes[kind, np.arange(count)] + 0.3 * rng.normal(size=(count, 12))
    return x[..., None].astype("float32"), kind


def loss_of(model, data):
    return cross_entropy(data[1], model.predict(data[0], verbose=0)).item()


cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
TRAIN, VALID, TEST = draw(60, 1), draw(500, 2), draw(500, 4)


def arrays_of(model):
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


def assign(model, arrays):
    for weight in model.weights:
        weight.assign(arrays[weight.path])
    return model


def from_arrays(arrays):
    (units,) = (len(values) for path, values in arrays.items() if path.endswith("recurrent_kernel"))
    return assign(Model(units), arrays)


model = Model(UNITS)
params, layout, spaces, readers = layout_of(model)  # ISS
x = TEST[0]
check_layout(lambda arrays: from_arrays(arrays).predict(x[:2], verbose=0), params, layout, spaces, readers)  # ISS
groups = iss_groups(layout, spaces)  # ISS


def train(strength, seed=0):
    keras.utils.set_random_seed(seed)
    model = Model(UNITS)
    model.compile(keras.optimizers.Adam(RATE), cross_entropy)
    strengths = np.full(groups.count, RATE * strength)  # ISS

    def shrink(batch, logs):  # ISS
        shrunk, certificate = prox(arrays_of(model), groups, strengths)
        assign(model, shrunk)
        strengths[certificate.dead] = 1e3  # more than any step, so momentum revives no unit

    after_batch = keras.callbacks.LambdaCallback(on_train_batch_end=shrink)  # ISS
    model.fit(*TRAIN, batch_size=60, epochs=EPOCHS, callbacks=[after_batch], verbose=0)
    return model, groups.split(strengths < 1e3)


# %%
(dense, _), (pruned, alive) = train(strength=0), train(STRENGTH)
small = from_arrays(compact(arrays_of(pruned), layout, alive)[0])  # ISS
before, after = (keras.ops.convert_to_numpy(model(x)) for model in (pruned, small))
small.export("small.onnx", format="onnx", verbose=False)
session = onnxruntime.InferenceSession("small.onnx")
onnx = session.run(None, {session.get_inputs()[0].name: x})[0]

units = ", ".join(f"{space} {len(mask)} -> {mask.sum()}" for space, mask in alive.items())
print(f"{units}; loss on new data: dense {loss_of(dense, TEST):.4f}, with ISS {loss_of(small, TEST):.4f}")
print(f"outputs changed by {abs(after - before).max():.0e}, in ONNX Runtime by {abs(onnx - before).max():.0e}")
