"""The tables of all frameworks."""

from issref.verify.formats import flax, keras, onnx, tf1, torch
from issref.verify.formats.cells import GRU, GRU_RESET_BEFORE
from issref.verify.formats.dialect import REFERENCE, reference

MODULES = {"torch": torch, "onnx": onnx, "flax": flax, "keras": keras, "tf1": tf1}
# In this order; other layers have a "kernel" or "weights" too.
DIALECTS = (
    ("torch", torch.SPELLING), ("onnx", onnx.SPELLING), ("flax", flax.SPELLING), ("flax", flax.NNX),
    ("keras", keras.SPELLING), ("tf1", tf1.SPELLING), ("issref", REFERENCE),
    ("torch", torch.SPELLING_GRU), ("onnx", onnx.SPELLING_GRU), ("onnx", onnx.SPELLING_GRU_BEFORE),
    ("flax", flax.SPELLING_GRU), ("flax", flax.NNX_GRU), ("keras", keras.SPELLING_GRU),
    ("keras", keras.SPELLING_GRU_BEFORE), ("tf1", tf1.SPELLING_GRU_BEFORE),
    ("issref", reference(GRU)), ("issref", reference(GRU_RESET_BEFORE)),
)  # fmt: skip
