"""Check the backward of any op or model against its forward.

An op is  outputs, backward = op(*arguments, **keywords)  (see `issref.ops`). With J its Jacobian in the
arguments, backward(g) is J^T g. So for every direction v of the arguments and every gradient g of the outputs

    <g, J v> = <J^T g, v>,

and the left side needs no backward: it is the derivative along v of f(x) = <g, op(x)>,

    Im f(x + i h v) / h                   by the complex step, h = 1e-30: no cancellation, exact to rounding
    (f(x + h v) - f(x - h v)) / 2 h       by central differences, h = 6e-6: error about 1e-10

Complex numbers use the NumPy kernels, real ones the jitted kernels; a backward must agree with both. Arguments and
outputs are arrays or dictionaries of arrays, so a model's loss(params, state) is checked like any op.
"""

import inspect
from collections.abc import Callable, Mapping

import numpy as np

Arrays = dict[str, np.ndarray]
Function = Callable[[Arrays], complex]

COMPLEX_STEP, DIFFERENCE_STEP = 1e-30, 6e-6  # the second: the cube root of float64's epsilon


def check_backward(op, arguments, *, rng=None, complex_tolerance=1e-12, difference_tolerance=1e-7, **keywords):
    """Raise ValueError, naming op, argument, check and error, unless all `backward_errors` are small.

    complex_tolerance also holds for linearity. The other checks are exact, without tolerance, and NaN fails.
    """
    tolerances: dict[str, float] = dict.fromkeys(("complex step", "every entry", "linearity"), complex_tolerance)
    tolerances["central differences"] = difference_tolerance
    for check, errors in backward_errors(op, arguments, rng=rng, **keywords).items():
        most = tolerances.get(check, 0.0)
        for name, error in errors.items():
            if not error <= most:
                raise ValueError(
                    f"{_name(op)}: expected an error up to {most:g} for {check} in {name}, got {error:.3g}"
                )


def backward_errors(op, arguments, *, rng=None, entries=500, **keywords) -> dict[str, dict[str, float]]:
    """Return {check: {argument: error}} for op(*arguments, **keywords) in float64, with random v and g.

    complex step, central differences: <g, J v> against <J^T g, v>, v along one argument at a time
    every entry: J^T g against the complex step along each axis, if there are at most `entries` axes
    linearity: backward(a g + b g') against a backward(g) + b backward(g')
    second call: backward returns the same again
    kept values: neither op nor backward changes its arguments

    Errors are relative to the largest compared value of all arguments, and for a sum <a, b> to sum |a b|. Raises
    ValueError if a gradient is missing or differs from its argument in shape.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    named = dict(zip(_argument_names(op, len(arguments)), arguments, strict=True))
    x = {name: np.array(values, np.float64) for name, values in _flat(named).items()}
    before = {name: values.copy() for name, values in x.items()}

    def run(x):
        outputs, backward = op(*_nested(named, x).values(), **keywords)
        return {f"output {n}": values for n, values in enumerate(_tuple(outputs))}, backward

    def f(x):  # <g, op(x)>
        return sum(np.sum(g[name] * values) for name, values in _flat(run(x)[0]).items())

    def transposed(g):  # J^T g
        found = _tuple(backward(*_nested(outputs, g).values()))
        if len(found) != len(named):
            raise ValueError(f"{_name(op)}: expected gradients of {', '.join(named)}, got {len(found)}")
        found = _flat(dict(zip(named, found, strict=True)))
        if _shapes(found) != _shapes(x):
            raise ValueError(f"{_name(op)}: expected gradients of shape {_shapes(x)}, got {_shapes(found)}")
        return found

    outputs, backward = run(x)
    v = _random_like(x, rng)
    g, other = (_random_like(_flat(outputs), rng) for _ in range(2))
    given = {name: values.copy() for name, values in g.items()}
    gradients, others = transposed(g), transposed(other)
    along = {name: np.sum(gradients[name] * v[name]) for name in x}
    scale = {name: np.sum(np.abs(gradients[name] * v[name])) for name in x}
    errors = {
        "complex step": _errors({name: _complex_slope(f, x, name, v[name]) for name in x}, along, scale),
        "central differences": _errors({name: _difference_slope(f, x, name, v[name]) for name in x}, along, scale),
        "linearity": _errors(
            transposed({name: 0.7 * g[name] - 1.3 * other[name] for name in g}),
            {name: 0.7 * gradients[name] - 1.3 * others[name] for name in x},
        ),
        "second call": _errors(transposed(g), gradients),
    }
    if sum(values.size for values in x.values()) <= entries:
        errors["every entry"] = _errors(gradients, complex_step(f, x))
    return {"kept values": _errors(x, before) | _errors(g, given), **errors}


def complex_step(function: Function, params: Arrays) -> Arrays:
    """Return the gradient of a scalar function, entry by entry: Im function(params + i h e) / h."""
    return _each_entry(_complex_slope, function, params)


def central_differences(function: Function, params: Arrays) -> Arrays:
    """Return the gradient of a scalar function: (function(params + h e) - function(params - h e)) / 2 h."""
    return _each_entry(_difference_slope, function, params)


def relative_error(found: Arrays, expected: Arrays) -> float:
    """Return the largest |found - expected| relative to the largest |expected|, over all arrays."""
    return max(_errors(found, expected).values(), default=0.0)


def _complex_slope(function: Function, params: Arrays, name: str, direction: np.ndarray) -> float:
    return float(np.imag(function({**params, name: params[name] + 1j * COMPLEX_STEP * direction})) / COMPLEX_STEP)


def _difference_slope(function: Function, params: Arrays, name: str, direction: np.ndarray) -> float:
    move = DIFFERENCE_STEP * direction
    rise = function({**params, name: params[name] + move}) - function({**params, name: params[name] - move})
    return float(np.real(rise)) / (2 * DIFFERENCE_STEP)


def _each_entry(slope, function: Function, params: Arrays) -> Arrays:
    gradients = {name: np.zeros(values.shape) for name, values in params.items()}
    for name, gradient in gradients.items():
        for index in np.ndindex(gradient.shape):
            axis = np.zeros(gradient.shape)
            axis[index] = 1
            gradient[index] = slope(function, params, name, axis)
    return gradients


def _errors(found: Mapping, expected: Mapping, scale: Mapping | None = None) -> dict[str, float]:
    largest = max((np.max(np.abs(values), initial=0) for values in (scale or expected).values()), default=0)
    unit = largest or 1.0  # absolute if all should be 0
    return {name: float(np.max(np.abs(found[name] - expected[name]), initial=0) / unit) for name in expected}


def _shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: np.shape(values) for name, values in sorted(arrays.items())}


def _random_like(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    return {name: np.asarray(rng.standard_normal(np.shape(values))) for name, values in arrays.items()}


def _flat(tree: Mapping, path: str = "") -> Arrays:
    """Return the arrays of nested dictionaries by path: {"params/lstm0/bias": ...}."""
    arrays = {}
    for key, part in tree.items():
        arrays |= _flat(part, f"{path}{key}/") if isinstance(part, Mapping) else {f"{path}{key}": part}
    return arrays


def _nested(like: Mapping, arrays: Arrays, path: str = "") -> dict:
    """Return arrays in nested dictionaries as in `like`, the inverse of `_flat`."""
    return {
        key: _nested(part, arrays, f"{path}{key}/") if isinstance(part, Mapping) else arrays[f"{path}{key}"]
        for key, part in like.items()
    }


def _tuple(values) -> tuple:
    return values if isinstance(values, tuple) else (values,)


def _argument_names(op, count: int) -> list[str]:
    names = list(inspect.signature(op).parameters)[:count]
    return names if len(names) == count else [f"argument {n}" for n in range(count)]  # op(*arguments)


def _name(op) -> str:
    return getattr(op, "__name__", repr(op))
