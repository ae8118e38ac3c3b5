"""Every jitted kernel equals its reference; exp, tanh and sigmoid are as accurate as stated."""

import errno
import inspect
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from issref import kernels
from issref.kernels import jitted, reference
from issref.kernels.jitted.compiled import compiled

HELPERS = {"exp", "tanh", "sigmoid"}  # of one number, used inside the loops; everything else public is a kernel
FLOATS = st.sampled_from((np.float32, np.float64))
SEEDS = st.integers(0, 2**32 - 1).map(np.random.default_rng)
SIZES = st.integers(0, 9)


def public(module):
    """The public functions of a module, jitted or not, by name."""
    return {
        name: getattr(function, "py_func", function)
        for name, function in vars(module).items()
        if (getattr(function, "__module__", None) or "").startswith(module.__name__) and not name.startswith("_")
    }


KERNELS = {name: function for name, function in public(reference).items() if name not in HELPERS}


# twins
# -----


def test_every_kernel_has_two_twins_of_one_signature_and_is_exported():
    fast = {name: function for name, function in public(jitted).items() if name not in HELPERS}
    assert set(KERNELS) == set(fast) == set(TWINS)
    for name, plain in KERNELS.items():
        assert list(inspect.signature(plain).parameters) == list(inspect.signature(fast[name]).parameters), name
        assert inspect.unwrap(getattr(kernels, name)) is plain
        assert plain.__doc__, name
        assert not fast[name].__doc__, f"{name}: said once, in reference"
    exported = {name for name, value in vars(kernels).items() if hasattr(value, "__wrapped__")}
    assert exported == set(KERNELS)


def ids(rng, length, groups):
    """Group ids of an axis, at random or all alike (the one sum of a softmax row); -1 where there is none."""
    constant = rng.integers(-1, groups) if rng.random() < 0.4 else None
    return np.full(length, constant) if constant is not None else rng.integers(-1, groups, length)


def weights_and_ids(rng, dtype, m, n, groups):
    return rng.standard_normal((m, n)).astype(dtype), ids(rng, m, groups), ids(rng, n, groups)


def add_pair_squared_norms(rng, dtype, m, n, groups):
    return *weights_and_ids(rng, dtype, m, n, groups), rng.random((groups + 1, groups + 1))


def scale_by_pair(rng, dtype, m, n, groups):
    return *weights_and_ids(rng, dtype, m, n, groups), rng.random((groups + 1, groups + 1))


def dual(rng, n, groups):
    """A symmetric table of squared norms, some of them 0, with strengths and shares of the dual."""
    squared_norms = rng.random((groups, groups)) * (rng.random((groups, groups)) < 0.8)
    share = 0.5 * rng.random((groups, groups))
    return squared_norms + squared_norms.T, rng.random(groups) * (rng.random(groups) < 0.8), share


def plus_transpose(rng, dtype, m, n, groups):
    return (rng.standard_normal((20 * groups, 20 * groups)),)  # more than a tile, and less


def dual_block_pass(rng, dtype, m, n, groups):
    return dual(rng, n, 20 * groups)


def duality_gap(rng, dtype, m, n, groups):
    return *dual(rng, n, 20 * groups), rng.random(20 * groups) < 0.3


def lstm_cell(rng, dtype, m, n, groups):
    return tuple((3 * rng.standard_normal(shape)).astype(dtype) for shape in ((m, 4 * n), (m, n)))


def lstm_cell_backward(rng, dtype, m, n, groups):
    dhidden, dcell, previous = (rng.standard_normal((m, n)).astype(dtype) for _ in range(3))
    gates, cell, _ = reference.lstm_cell(rng.standard_normal((m, 4 * n)).astype(dtype), previous)
    return dhidden, dcell, gates, previous, cell


def lstm_forward(rng, dtype, m, n, groups):
    """m sequences of some of `groups` steps each, forward or reversed."""
    shapes = ((groups, m, 4 * n), (m, n), (m, n), (n, 4 * n))
    lengths = rng.integers(0, groups + 1, m)
    return *(rng.standard_normal(shape).astype(dtype) for shape in shapes), lengths, bool(rng.random() < 0.5)


def lstm_backward(rng, dtype, m, n, groups):
    gates, h, c, weights, *order = lstm_forward(rng, dtype, m, n, groups)
    _, _, c_before, c_after, _, _ = reference.lstm_forward(gates, h, c, weights, *order)
    dhidden, dh, dc = (rng.standard_normal(shape).astype(dtype) for shape in (c_after.shape, h.shape, h.shape))
    return dhidden, dh, dc, gates, c_before, c_after, weights, *order


def gru_forward(rng, dtype, m, n, groups):
    gates, h, _, _, lengths, reverse = lstm_forward(rng, dtype, m, n, groups)
    weights, shift = (rng.standard_normal(shape).astype(dtype) for shape in ((n, 3 * n), n))
    return gates[..., : 3 * n].copy(), h, weights, shift, lengths, reverse, bool(rng.random() < 0.5)


def gru_backward(rng, dtype, m, n, groups):
    gates, h, weights, shift, *order = gru_forward(rng, dtype, m, n, groups)
    hidden, h_before, products, _ = reference.gru_forward(gates, h, weights, shift, *order)
    dhidden, dh = (rng.standard_normal(shape).astype(dtype) for shape in (hidden.shape, h.shape))
    return dhidden, dh, gates, h_before, products, weights, *order


def highway_cell(rng, dtype, m, n, groups):
    return tuple((3 * rng.standard_normal(shape)).astype(dtype) for shape in ((m, 2 * n), (m, n)))


def highway_cell_backward(rng, dtype, m, n, groups):
    dstate, previous = (rng.standard_normal((m, n)).astype(dtype) for _ in range(2))
    gates, _ = reference.highway_cell(rng.standard_normal((m, 2 * n)).astype(dtype), previous)
    return dstate, gates, previous


def add_rows(rng, dtype, m, n, groups):
    table, rows = rng.standard_normal((groups, n)).astype(dtype), rng.standard_normal((m, n)).astype(dtype)
    return table, rng.integers(-1, groups, m), rows  # -1: the last row, as NumPy has it


def log_sum_exp(rng, dtype, m, n, groups):
    logits = (5 * rng.standard_normal((m, n + 1))).astype(dtype)
    return (logits,)


def softmax_minus_target(rng, dtype, m, n, groups):
    (logits,) = log_sum_exp(rng, dtype, m, n, groups)
    return logits, reference.log_sum_exp(logits), rng.integers(n + 1, size=m), float(rng.normal())


def affine(rng, dtype, m, n, groups):
    columns = int(rng.integers(1, 200))  # of several panels, the last one not full
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in ((3 * m, n), (n, columns), columns))


def descend(rng, dtype, m, n, groups):
    weights, gradient = (rng.standard_normal((m, n)).astype(dtype) for _ in range(2))
    return weights, gradient if rng.random() < 0.5 else np.asfortranarray(gradient), float(rng.random())


TWINS = {
    make.__name__: make
    for make in (
        add_pair_squared_norms, scale_by_pair, plus_transpose, dual_block_pass, duality_gap, lstm_cell,
        lstm_cell_backward, lstm_forward, lstm_backward, gru_forward, gru_backward, highway_cell,
        highway_cell_backward, add_rows, log_sum_exp, softmax_minus_target, affine, descend,
    )
}  # fmt: skip


def effects(kernel, arguments):
    """Everything a kernel returns and everything it may have written to."""
    arguments = tuple(np.copy(value) if isinstance(value, np.ndarray) else value for value in arguments)
    result = kernel(*arguments)
    results = result if isinstance(result, tuple) else (result,)
    return [np.asarray(value) for value in (*results, *arguments) if value is not None]


@pytest.mark.parametrize("name", TWINS)
@given(rng=SEEDS, dtype=FLOATS, m=SIZES, n=SIZES, groups=st.integers(1, 5))
def test_twins_agree_and_write_to_the_same_arguments(name, rng, dtype, m, n, groups):
    arguments = TWINS[name](rng, dtype, m, n, groups)
    plain, fast = effects(getattr(reference, name), arguments), effects(getattr(jitted, name), arguments)
    assert len(plain) == len(fast)
    for expected, found in zip(plain, fast, strict=True):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        if found.dtype.kind == "f":
            allowed = 40 * np.finfo(found.dtype).eps * np.max(np.abs(expected), initial=1)
            np.testing.assert_allclose(found, expected, rtol=0, atol=allowed)
        else:
            np.testing.assert_array_equal(found, expected)


@given(rng=SEEDS, m=st.integers(1, 5), n=st.integers(1, 40))
def test_squared_norms_of_float32_weights_are_summed_in_float64(rng, m, n):
    weights = rng.standard_normal((m, n)).astype(np.float32)
    for columns in (np.zeros(n, int), np.arange(n) % 2):
        small, large = np.zeros((3, 3)), np.zeros((3, 3))
        jitted.add_pair_squared_norms(weights, np.arange(m) % 2, columns, small)
        jitted.add_pair_squared_norms(weights.astype(np.float64), np.arange(m) % 2, columns, large)
        np.testing.assert_allclose(small, large, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.complex128, np.longdouble])
def test_complex_and_long_double_run_the_plain_twin(dtype):
    preactivation, cell = np.full((1, 8), dtype(0.25)), np.full((1, 2), dtype(0.5))
    _, after, hidden = kernels.lstm_cell(preactivation, cell)
    assert after.dtype == hidden.dtype == dtype
    half = dtype(0.25)
    gate = 1 / (1 + np.exp(-half))
    np.testing.assert_allclose(after, np.full((1, 2), gate * 0.5 + gate * np.tanh(half)), rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float32_and_float64_run_the_jitted_twin(dtype):
    x = np.linspace(-3, 3, 80, dtype=dtype)[None]
    found, fast, plain = (module.lstm_cell(x, x[:, :20])[0] for module in (kernels, jitted, reference))
    np.testing.assert_array_equal(found, fast)
    assert (found != plain).any()  # they differ in last digits, which tells them apart


# exp, tanh, sigmoid, as the kernels apply them
# ---------------------------------------------


def exp(x):
    logits = np.append(x, x.dtype.type(0))[None]
    zero = np.zeros(1, x.dtype)
    return jitted.softmax_minus_target(logits, zero, np.array([x.size]), 1.0)[0, :-1]


def tanh(x):
    return jitted.lstm_cell(np.tile(x, 4)[None], np.zeros((1, x.size), x.dtype))[0][0, x.size : 2 * x.size]


def sigmoid(x):
    return jitted.lstm_cell(np.tile(x, 4)[None], np.zeros((1, x.size), x.dtype))[0][0, : x.size]


def exact_sigmoid(x):
    return 1 / (1 + np.exp(-x))


MOST = {np.float32: 87, np.float64: 708}  # where exp is clipped
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def dense(dtype, most):
    """Every scale: numbers spread evenly up to most, and evenly in their logarithm down to 1e-30."""
    even = np.linspace(-most, most, 400_001)
    small = np.geomspace(1e-30, most, 200_001)
    return np.unique(np.concatenate((even, small, -small))).astype(dtype).clip(-most, most)


def ulps(found, exact):
    """|found - exact| in units in the last place of exact, which is a long double."""
    spacing = np.spacing(np.abs(exact).astype(found.dtype)).astype(np.longdouble)
    return np.max(np.abs(found.astype(np.longdouble) - exact) / spacing)


@dtypes
@pytest.mark.parametrize(
    ("function", "exact", "stated"), [(exp, np.exp, 1.5), (tanh, np.tanh, 3), (sigmoid, exact_sigmoid, 3)]
)
def test_largest_error_is_as_stated(function, exact, stated, dtype):
    for most in (1, 20, MOST[dtype]):
        x = dense(dtype, most)
        assert ulps(function(x), exact(x.astype(np.longdouble))) <= stated


@dtypes
def test_tanh_of_zero_is_exactly_zero(dtype):
    np.testing.assert_array_equal(tanh(np.array([0.0, -0.0], dtype)), 0)


@dtypes
def test_tanh_is_odd_within_two_units_and_sigmoid_symmetric(dtype):
    x = dense(dtype, 20)
    x = x[x > 0]
    assert ulps(tanh(x), -tanh(-x).astype(np.longdouble)) <= 4
    np.testing.assert_allclose(sigmoid(x) + sigmoid(-x), 1, rtol=4 * np.finfo(dtype).eps)


@dtypes
@pytest.mark.parametrize("function", [exp, tanh, sigmoid])
def test_nan_stays_nan_and_its_neighbours_stay_numbers(function, dtype):
    x = np.array([1, np.nan] * 9, dtype)
    np.testing.assert_array_equal(np.isnan(function(x)), np.isnan(x))


@dtypes
def test_infinities_saturate(dtype):
    far = np.array([np.inf, 1e30], dtype)
    tiny = 2 * np.finfo(dtype).tiny
    np.testing.assert_array_equal(tanh(far), 1)
    np.testing.assert_array_equal(tanh(-far), -1)
    np.testing.assert_array_equal(sigmoid(far), 1)
    for vanishing in (sigmoid(-far), exp(-far)):
        assert ((vanishing >= 0) & (vanishing <= 10 * tiny)).all()
    assert np.isfinite(exp(far)).all()
    assert (exp(far) >= np.finfo(dtype).max / 100).all()


@dtypes
@pytest.mark.parametrize(("function", "low", "high"), [(exp, 0, np.inf), (tanh, -1, 1), (sigmoid, 0, 1)])
def test_rises_within_its_error_and_stays_in_range(function, low, high, dtype):
    y = function(dense(dtype, MOST[dtype]))
    assert ((low <= y) & (y <= high)).all()
    fall = np.maximum.accumulate(y) - y
    assert (fall <= 6 * np.spacing(np.abs(y))).all()


# the cache
# ---------

COUNT_COMPILATIONS = """
import numpy as np
from issref import kernels
from issref.kernels.jitted import cells, rows
x = np.zeros((2, 8), np.float32)
kernels.lstm_cell(x, x[:, :2].copy())
kernels.softmax_minus_target(x, x[:, 0].copy(), np.array([0, 1]), 0.5)
found = [kernel.stats for module in (cells, rows) for kernel in vars(module).values() if hasattr(kernel, "stats")]
print(sum(sum(stats.cache_hits.values()) for stats in found))
print(sum(sum(stats.cache_misses.values()) for stats in found))
"""


def test_a_second_process_compiles_nothing(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    hits_and_misses = [
        subprocess.run(
            (sys.executable, "-c", COUNT_COMPILATIONS), env=environment, check=True, capture_output=True, text=True
        ).stdout.split()
        for _ in range(2)
    ]
    (_, first_misses), (second_hits, second_misses) = hits_and_misses
    assert int(first_misses) >= 2
    assert int(second_hits) >= 2
    assert int(second_misses) == 0


FINGERPRINT = """
import hashlib, numpy as np, test_kernels
from issref.kernels import jitted
for name, make in test_kernels.TWINS.items():
    arguments = make(np.random.default_rng(0), np.float32, 40, 257, 3)
    found = test_kernels.effects(getattr(jitted, name), arguments)
    print(name, hashlib.sha256(b"".join(values.tobytes() for values in found)).hexdigest())
"""


def test_loops_just_compiled_and_stored_ones_compute_the_same_bits(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", FINGERPRINT]
    compiled, stored = (
        subprocess.run(
            command, env=environment, cwd=os.path.dirname(__file__), check=True, capture_output=True, text=True
        )
        for _ in range(2)
    )
    assert len(stored.stdout.splitlines()) == len(TWINS)
    assert stored.stdout == compiled.stdout


# what happens without a place for compiled loops, or with damaged ones
# ----------------------------------------------------------------------


def double(x):
    return x + x


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """numba's folder; `compiled()(double)` is a new process as far as numba's files are concerned."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def compiled_double():
    function = compiled()(double)
    assert function(21) == 42
    return function.stats


def stored(folder, suffix):
    (path,) = folder.rglob(f"*{suffix}")
    return path


DAMAGE = {
    "empty": lambda content: b"",
    "the first half": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "zeros at the end": lambda content: content[: len(content) // 2].ljust(len(content), b"\0"),
    "another file": lambda content: b"not what numba wrote",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_a_damaged_file_of_compiled_loops_is_reported_and_replaced(folder, suffix, damage):
    compiled_double()
    path = stored(folder, suffix)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.warns(RuntimeWarning, match="expected whole files of compiled loops, got"):
        assert not compiled_double().cache_hits
    assert compiled_double().cache_hits  # replaced: without a warning


def test_changed_machine_code_never_runs(folder):
    compiled_double()
    path = stored(folder, ".nbc")
    content = bytearray(path.read_bytes())
    content[content.index(b".text")] ^= 1
    path.write_bytes(content)
    with pytest.warns(RuntimeWarning, match="another checksum"):
        assert not compiled_double().cache_hits


def test_a_full_disk_costs_the_file_of_compiled_loops_only(folder, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._save_data", full)
    with pytest.warns(RuntimeWarning, match="expected to store compiled loops, got No space left on device"):
        compiled_double()


def test_read_only_homes_cost_the_files_of_compiled_loops_only(monkeypatch):
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])  # what numba finds there
    with pytest.warns(RuntimeWarning, match="expected a folder for compiled loops, got none writable"):
        compiled_double()


WITHOUT_COMPILER = """
import warnings, numpy as np
from issref import kernels
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    for _ in range(2):
        assert (kernels.plus_transpose(np.arange(4.0).reshape(2, 2)) == [[0, 3], [3, 6]]).all()
print(*(each.message for each in said))
"""


def test_without_the_compiler_the_plain_twins_run_and_say_so():
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = (sys.executable, "-c", WITHOUT_COMPILER)
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.count("NUMBA_DISABLE_JIT: expected 0") == 1
