"""A loop in several threads gives the same result as in one, for all sizes."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

import issref  # noqa: F401  (before NumPy's first product)
from issref import kernels
from issref.kernels import parallel


def test_the_blas_has_no_more_threads_than_there_are_cores():
    """NumPy's own would start as many as it is told."""
    with parallel.thread_limit(8 * parallel.CORES):
        pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    assert all(threads <= parallel.CORES for threads in pools)


@given(
    count=st.integers(0, 9),
    most=st.integers(1, 5),
    nanoseconds=st.sampled_from((0, 10 * parallel.MIN_PARALLEL_NS)),
)
def test_every_index_is_visited_once_in_one_piece_a_thread(count, most, nanoseconds):
    visits, pieces = np.zeros(count, int), []

    def loop(start, stop, step):
        visits[start:stop] += step
        pieces.append((start, stop))

    with parallel.thread_limit(most):
        parallel.parallel_for(loop, count, nanoseconds, 2)
    assert (visits == 2).all()
    assert len(pieces) == (
        max(1, min(most, count, parallel.CORES)) if nanoseconds > parallel.MIN_PARALLEL_NS else 1
    )


def test_an_error_in_any_piece_arrives():
    def loop(start, stop):
        if stop == 8:
            raise FloatingPointError("the last piece")

    with pytest.raises(FloatingPointError, match="the last piece"):
        parallel.parallel_for(loop, 8, 10 * parallel.MIN_PARALLEL_NS)


def test_the_limit_is_that_of_the_blas_too_and_ends():
    before = parallel._most.get()
    with parallel.thread_limit(1):
        assert parallel._most.get() == 1
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
    assert parallel._most.get() == before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_do_not_depend_on_the_threads(monkeypatch, dtype):
    monkeypatch.setattr(parallel, "MIN_PARALLEL_NS", 0)
    monkeypatch.setattr(parallel, "CORES", 4)
    rng, lengths = np.random.default_rng(0), np.arange(7)
    shapes = ((6, 7, 20), (7, 5), (7, 5), (5, 20), (6, 7, 5), (9, 11))
    gates, h, c, weights, dhidden, logits = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    found = []
    for most in (1, 2, 3):
        with parallel.thread_limit(most):
            after = gates.copy()
            forward = kernels.lstm_forward(after, h, c, weights, lengths, False)
            _, _, c_before, c_after, _, _ = forward
            backward = kernels.lstm_backward(dhidden, h, c, after, c_before, c_after, weights, lengths, True)
            sums = kernels.log_sum_exp(logits)
            slopes = kernels.softmax_minus_target(logits, sums, np.arange(9), 0.5)
            found.append((*forward, *backward, sums, slopes))
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, same)


def test_a_limit_in_one_thread_is_none_for_another():
    with parallel.thread_limit(1), ThreadPoolExecutor(1) as other:
        assert other.submit(parallel._most.get).result() == parallel.CORES


def test_no_piece_goes_on_after_an_error():
    ended = []

    def loop(start, stop):
        if start == 0:
            raise KeyboardInterrupt
        time.sleep(0.1)
        ended.append(stop)

    with parallel.thread_limit(2), pytest.raises(KeyboardInterrupt):
        parallel.parallel_for(loop, 8, 10 * parallel.MIN_PARALLEL_NS)
    assert len(ended) == min(2, parallel.CORES) - 1


FORKED = """
import os, sys
import numpy as np
import issref
from issref import kernels
from issref.kernels import parallel
parallel.MIN_PARALLEL_NS, parallel.CORES = 0, 2
with parallel.thread_limit(2):
    logits = np.zeros((8, 4))
    kernels.log_sum_exp(logits)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.allclose(kernels.log_sum_exp(logits), np.log(4)) else 1)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with fork")
def test_a_forked_child_has_threads_of_its_own():
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    subprocess.run((sys.executable, "-c", FORKED), env=environment, check=True, timeout=60)


def test_idle_threads_of_openblas_sleep_unless_told_otherwise():
    show = "import issref, os; print(os.environ['OPENBLAS_THREAD_TIMEOUT'])"
    bare = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    for environment, expected in ((bare, "14"), ({**bare, "OPENBLAS_THREAD_TIMEOUT": "20"}, "20")):
        found = subprocess.run(
            (sys.executable, "-c", show), env=environment, capture_output=True, text=True, check=True
        )
        assert found.stdout.strip() == expected
