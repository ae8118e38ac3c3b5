"""No argument makes a compiled loop read or write outside an array: shapes, ids and lengths are checked before.

The attacks run in a child process, which may crash, and without type checkers. It prints what was not refused.
"""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_ops import CASES, as_tuple

from issref import Layout, alive, group_norms, iss_groups, penalty, prox, strength_bound

ROOT = Path(__file__).parents[1]
FAR = 10**9
CHILD = "import sys; sys.path.insert(0, 'tests'); import test_memory; test_memory.report_attacks()"


def other_shapes(shape, rng):
    """Every shape one away from this one, and some that have nothing to do with it."""
    near = [(*shape[:k], shape[k] + step, *shape[k + 1 :]) for k in range(len(shape)) for step in (-1, 1)]
    near += [(*shape, 1), (1, *shape), shape[1:], shape[:-1], (), (0,) * len(shape), shape[::-1]]
    far = [tuple(rng.integers(0, 6, rng.integers(5)).tolist()) for _ in range(5)]
    return {other for other in near + far if min(other, default=0) >= 0} - {shape}


def other_ids(ids, rng):
    """Ids and lengths of another kind, of another shape or out of range."""
    yield from (np.zeros(shape, int) for shape in other_shapes(ids.shape, rng))
    yield ids.astype(float)
    if ids.size:
        for value in (-1, -FAR, FAR):
            wrong = ids.copy()
            wrong.flat[rng.integers(ids.size)] = value
            yield wrong


def replaced(values, index, value):
    return [*values[:index], value, *values[index + 1 :]]


def attacks_on_an_op(op, arguments, keywords, rng):
    """Yield (description, call, whether it must be refused)."""
    outputs, backward = op(*arguments, **keywords)
    cotangents = [np.ones_like(value) for value in as_tuple(outputs)]
    for index, cotangent in enumerate(cotangents):
        for shape in other_shapes(cotangent.shape, rng):
            gradients = replaced(cotangents, index, np.ones(shape))
            yield f"gradient {index} {shape}", lambda gradients=gradients: backward(*gradients), True
    for index, argument in enumerate(arguments):
        for shape in other_shapes(argument.shape, rng):
            others = replaced(list(arguments), index, np.ones(shape))
            yield f"argument {index} {shape}", lambda others=others: whole(op, others, keywords), False
    for dtype in (int, bool, np.uint8, np.float16, ">f8", np.longdouble, complex):
        others, gradients = ([value.astype(dtype) for value in values] for values in (arguments, cotangents))
        yield f"gradients {dtype}", lambda gradients=gradients: backward(*gradients), False
        yield f"arguments {dtype}", lambda others=others: whole(op, others, keywords), False
    for name, ids in keywords.items():
        if isinstance(ids, np.ndarray) and "mask" not in name:
            for other in other_ids(ids, rng):
                free = op.__name__ == "embed" and other.dtype.kind == "i" and (other == 0).all()
                others = keywords | {name: other}
                yield f"{name} {other.tolist()}", lambda others=others: whole(op, arguments, others), not free


def whole(op, arguments, keywords):
    outputs, backward = op(*arguments, **keywords)
    backward(*(np.ones_like(value) for value in as_tuple(outputs)))


def report_attacks():
    rng, tried = np.random.default_rng(0), 0
    for case, (op, make, keywords) in CASES.items():
        for what, call, must in attacks_on_an_op(op, make(rng), keywords, rng):
            tried += 1
            try:
                call()
            except ValueError as error:
                if not re.match(r"\w+: expected ", str(error)):
                    print(f"{case}: {what}: {error}")
            except Exception as error:  # the test shows which
                print(f"{case}: {what}: {error!r}")
            else:
                if must:
                    print(f"{case}: {what}: not refused")
    print(tried, "attacks")


def test_ops_and_backwards_refuse_what_does_not_fit():
    done = subprocess.run((sys.executable, "-c", CHILD), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    *faults, count = done.stdout.splitlines()
    assert not faults
    assert int(count.split()[0]) > 8000  # as docs/promises.md says


@pytest.mark.parametrize("case", CASES)
def test_a_backward_does_not_see_ids_changed_after_the_call(case):
    op, make, keywords = CASES[case]
    keywords = {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in keywords.items()}
    ids = [value for name, value in keywords.items() if isinstance(value, np.ndarray) and "mask" not in name]
    outputs, backward = op(*make(np.random.default_rng(1)), **keywords)
    cotangents = [np.ones_like(value) for value in as_tuple(outputs)]
    before = as_tuple(backward(*cotangents))
    for values in ids:
        values.fill(FAR)
    for found, expected in zip(as_tuple(backward(*cotangents)), before, strict=True):
        np.testing.assert_array_equal(found, expected)


USERS = {
    "group_norms": group_norms,
    "penalty": lambda params, groups: penalty(params, groups, 1.0),
    "prox": lambda params, groups: prox(params, groups, 0.1),
    "strength_bound": lambda params, groups: strength_bound(params, params, groups, 1.0),
    "alive": alive,
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("axis", [0, 1])
def test_group_ids_of_any_kind_are_refused_unless_they_are_ids(user, axis):
    layout = Layout({"w": (("x", "unit"), 4 * ("unit",)), "v": (("unit",), ("y",))}, {"x": 2, "unit": 3, "y": 5})
    groups, params = iss_groups(layout, ["unit"]), layout.allocate()
    right = groups.ids["w"][axis]
    USERS[user](params, groups)
    out_of_range = [np.where(right == 0, far, right) for far in (-2, 3, -FAR, FAR)]
    for ids in (right[1:], right[:0], np.append(right, 0), right[:, None], right * 1.0, right > 0, *out_of_range):
        pair = (ids, groups.ids["w"][1]) if axis == 0 else (groups.ids["w"][0], ids)
        with pytest.raises(ValueError, match=r"^w: expected (a vector of integers|group ids|shape)"):
            USERS[user](params, groups._replace(ids={**groups.ids, "w": pair}))
