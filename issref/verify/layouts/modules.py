"""Layouts of embedding, recurrent and linear layers of PyTorch, Keras and Flax NNX that run one after another.

Only the framework of the given layers is imported.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from issref.iss.layout import Axis, Layout, Params
from issref.verify.layouts import flax, keras, torch
from issref.verify.layouts.plain import Described, kind

# In this order: a layer of Keras may be a module of PyTorch, too.
FRAMEWORKS = {"keras": keras, "flax": flax, "torch": torch}


def layout_of(module: Any) -> tuple[Params, Layout, list[str], list[tuple[str, int]]]:
    """Return params, layout, removable spaces and readers, as in `check_layout(function, *layout_of(module))`.

    `module` is a layer, a sequential module, a list of layers, or a dictionary of layers by name, in the order in
    which they run: `{"embed": model.embed, "lstm": model.lstm, "head": model.head}` for the names in a state dict.
    The layers are embeddings, linear maps, LSTMs, GRUs and simple RNNs (any number of layers, both directions end
    to end, PyTorch's projections), dropout and elementwise activations. Params share memory with the framework
    where it allows that. The units that the last layer returns are not removable.
    With fewer spaces, leave out the readers in arrays that hold none of them.

    Raises ValueError for any other layer, naming the arrays to describe by hand, and for an array used twice.
    """
    layers, framework = list(_layers(module)), _framework(module)
    params, axes, inputs, readers = {}, {}, ("input",), []
    for position, (name, layer) in enumerate(layers):
        arrays = framework.read(name, layer)
        described = framework.describe(name, layer, inputs, position == len(layers) - 1)
        described = _checked(name, layer, arrays, described)
        _check_untied(params, arrays)
        params, axes, inputs = params | arrays, axes | described.axes, described.outputs
        if not kind(layer).startswith("Embed"):
            readers += [(array, framework.READS) for array, ends in described.axes.items() if _is_matrix(ends)]
    layout = Layout(axes, _sizes(axes, params))
    layout.check(params)
    read = {space for array, axis in readers for space in axes[array][axis]} - {"input", *inputs}
    return params, layout, [space for space in layout.sizes if space in read], readers


def _layers(module: Any) -> Iterator[tuple[str, Any]]:
    """Yield the layers of a container by name, any other module as a layer without a name."""
    if isinstance(module, Mapping):
        yield from module.items()
    elif isinstance(module, list | tuple) or kind(module) in ("Sequential", "ModuleList"):
        prefix = "layers/" if type(module).__module__.startswith("flax") else ""
        layers = getattr(module, "layers", module)
        yield from ((f"{prefix}{number}", layer) for number, layer in enumerate(layers))
    else:
        yield "", module


def _framework(module: Any) -> Any:
    origins = {cls.__module__.split(".")[0] for _, layer in _layers(module) for cls in type(layer).__mro__}
    for name, framework in FRAMEWORKS.items():
        if name in origins:
            return framework
    raise ValueError(f"module: expected layers of PyTorch, Keras or Flax NNX, got {type(module).__name__}")


def _checked(name: str, layer: Any, arrays: Params, described: Described | None) -> Described:
    if described is None or described.axes.keys() != arrays.keys():
        shapes = ", ".join(f"{array} {values.shape}" for array, values in arrays.items()) or "its arrays"
        raise ValueError(
            f"{name or 'module'}: expected a plain embedding, linear, recurrent, dropout or activation layer, got "
            f"{type(layer).__name__}; describe by hand the spaces along each axis of {shapes}"
        )
    return described


def _check_untied(params: Params, arrays: Params) -> None:
    for array, values in arrays.items():
        for other, others in params.items():
            if array == other or np.may_share_memory(values, others):
                raise ValueError(
                    f"{array}: expected an array of its own, got that of {other}; describe a tied array by hand, "
                    "once, with one space for the units on both sides"
                )


def _is_matrix(axes: tuple[Axis, ...]) -> bool:
    return len(axes) == 2 and not any(space.startswith("~") for axis in axes for space in axis)


def _sizes(axes: Mapping[str, tuple[Axis, ...]], params: Params) -> dict[str, int]:
    """Return the size of each space, from the first axis that belongs to it alone."""
    sizes = {}
    for array, ends in axes.items():
        for spaces, length in zip(ends, params[array].shape, strict=True):
            if len({*spaces}) == 1:
                sizes.setdefault(spaces[0].removeprefix("~"), length // len(spaces))
    return sizes
