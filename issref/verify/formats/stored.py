"""Give arrays their plain names, and compute weights that a file holds in parts: masks, raw copies."""

import re

import numpy as np

from issref.iss.layout import Params
from issref.verify.formats.dialect import Arrays

Notes = dict[str, str]  # a remark on an array, by its plain name
Sources = dict[str, tuple[str, ...]]  # the names of the arrays that make up an array, by its plain name
_WEIGHT = re.compile(r"(.*\.|)((?:weight|bias)_[ih]h(?:_l\d+(?:_reverse)?)?)")
_MASKED = re.compile(r"(?:.*\.|)(?:\w+_)?(?:weight|bias)\w*")  # of any module


def plain(arrays: Arrays) -> tuple[Params, Notes, Sources]:
    """Return the arrays by plain names, remarks on computed ones, and the arrays that each was computed from.

    TensorFlow's ":0" is no part of a name; "if_" of Flax NNX is "if". Weights of torch.nn.utils.prune are original
    times mask; of a weight that AWD-LSTM drops, "_raw" is the weight, the other its last dropped-out copy. Raises
    ValueError if two arrays have one plain name, or a mask another shape than its weight.
    """
    found, notes, sources = {}, {}, {}
    for name, values in sorted(arrays.items()):
        short = re.sub(r"(^|/)if_/", r"\1if/", re.sub(r":\d+$", "", name))
        if short in found:
            raise ValueError(f"{short}: expected one array of this name, got {name} too")
        found[short], sources[short] = values, (name,)
        if short.endswith("bias") and values.ndim == 2 and len(values) == 2:
            found[short] = values.ravel()  # the two biases of Keras' GRU
    for name in [*found]:
        _unmask(found, notes, sources, name.removesuffix("_orig"))
        _undrop(found, notes, sources, name.removesuffix("_raw"))
    return found, notes, sources


def _unmask(found: Params, notes: Notes, sources: Sources, name: str) -> None:
    values, mask = found.get(f"{name}_orig"), found.get(f"{name}_mask")
    if _MASKED.fullmatch(name) and name not in found and values is not None and mask is not None:
        if mask.shape != values.shape:
            raise ValueError(f"{name}_mask: expected shape {values.shape}, got {mask.shape}")
        with np.errstate(all="ignore"):
            found[name] = found.pop(f"{name}_orig") * found.pop(f"{name}_mask").astype(values.dtype)
        notes[name] = f"{name} is {name}_orig times {name}_mask"
        sources[name] = sources.pop(f"{name}_orig") + sources.pop(f"{name}_mask")


def _undrop(found: Params, notes: Notes, sources: Sources, name: str) -> None:
    if (parts := _WEIGHT.fullmatch(name)) and f"{name}_raw" in found:
        module = f"{parts[1]}module."
        place = module + parts[2] if any(other.startswith(f"{module}weight_") for other in found) else name
        found[place] = found.pop(f"{name}_raw")
        notes[place] = f"{place} is {name}_raw, the weight without dropout"
        sources[place] = sources.pop(f"{name}_raw") + sources.pop(place, ())
