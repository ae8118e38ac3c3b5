"""Operations with gradients by hand: every op returns its output and its backward function.

    output, backward = op(positional, ..., keyword=...)

Positional arguments are differentiable, keyword-only arguments are not. `backward` takes the gradient of each
output, in order, and returns the gradient of each positional argument, in order. It stores nothing and accumulates
nothing: a caller that uses a value twice adds the two gradients. The dtype of an output is that of the inputs.
The compiled loops check no bounds, so each op and each backward checks shapes, ids and lengths first, and keeps
copies of ids and lengths. Tutorials: tutorials/3_backward_by_hand.py, tutorials/7_highways.py.
"""

import functools
import inspect
from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np

Op = TypeVar("Op", bound=Callable)  # an editor shows the signature and docstring of the op


def checked(op: Op) -> Op:
    """Decorate an op: its backward raises ValueError if the gradients do not have the shapes of the outputs."""

    @functools.wraps(op)
    def run(*arguments, **keywords):
        outputs, backward = op(*arguments, **keywords)
        needed = [np.shape(output) for output in (outputs if isinstance(outputs, tuple) else (outputs,))]

        def checked_backward(*gradients):
            found = [np.shape(gradient) for gradient in gradients]
            if found != needed:
                names = ", ".join(inspect.signature(backward).parameters)
                raise ValueError(f"{op.__name__}: expected shapes {needed} of {names}, got {found}")
            return backward(*gradients)

        return outputs, checked_backward

    return cast(Op, run)


def check_shapes(op: str, **arrays: tuple[np.ndarray, tuple[int | str, ...]]) -> None:
    """Raise ValueError if an array does not have its shape; a letter in place of a size stands for any size."""
    for name, (array, shape) in arrays.items():
        found = array.shape
        if found != shape and (len(found) != len(shape) or any(map(_differ, shape, found))):
            needed = ", ".join(map(str, shape)) + "," * (len(shape) == 1)
            raise ValueError(f"{op}: expected shape ({needed}) of {name}, got {found}")


def _differ(need: int | str, size: int) -> bool:
    return need != size and not isinstance(need, str)


def check_floating(op: str, dtype: np.dtype) -> None:
    """Raise ValueError if the inputs have no floating point dtype in common."""
    if not np.issubdtype(dtype, np.inexact):
        raise ValueError(f"{op}: expected floating point numbers, got {dtype}")


def checked_ids(op: str, name: str, ids: np.ndarray, stop, start: int = 0) -> np.ndarray:
    """Return a copy of ids or lengths. Raises ValueError if one is no integer from `start` to `stop` - 1.

    `stop` is one number, or one for each id.
    """
    copy = np.array(ids)
    if copy.dtype.kind not in "iu":
        raise ValueError(f"{op}: expected integers as {name}, got {copy.dtype}")
    wrong = (copy < start) | (copy >= stop)
    if wrong.any():
        first = wrong.argmax()
        last = np.broadcast_to(stop, copy.shape).flat[first] - 1
        raise ValueError(f"{op}: expected {name} from {start} to {last}, got {copy.flat[first]}")
    return copy.astype(np.intp, copy=False)
