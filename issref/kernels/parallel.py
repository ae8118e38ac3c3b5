"""Run large loops in several threads: one for each core, or fewer within `thread_limit`.

Matrix products in NumPy use the threads of the BLAS. `issref.openblas` makes these sleep when idle, so that they
do not slow down the threads here.
"""

import functools
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar

MIN_PARALLEL_NS = 300_000  # a shorter loop runs in one thread: to start one in another takes about 20,000 ns
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_most: ContextVar[int] = ContextVar("most", default=CORES)


@contextmanager
def thread_limit(most: int | None) -> Iterator[None]:
    """Limit the number of threads in a `with` block, for loops of this thread and for the BLAS; None: no limit.

    There is never more than one thread for each core.
    """
    from threadpoolctl import threadpool_limits

    limit = None if most is None else min(most, CORES)
    before = _most.set(limit or CORES)
    try:
        with threadpool_limits(limit, user_api="blas"):
            yield
    finally:
        _most.reset(before)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(CORES, thread_name_prefix="issref")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has no threads of its parent


def parallel_for(loop, count: int, nanoseconds: float, *arguments) -> None:
    """Run loop(start, stop, *arguments) over the range [0, count), cut into one piece for each thread.

    `nanoseconds` is the estimated work; below MIN_PARALLEL_NS there is one piece. The result does not depend on
    the number of pieces. Raises the first error of a piece, after all pieces have ended.
    """
    pieces = max(1, min(_most.get(), count)) if nanoseconds > MIN_PARALLEL_NS else 1
    cuts = [count * piece // pieces for piece in range(pieces + 1)]
    others = [_pool().submit(loop, *ends, *arguments) for ends in itertools.pairwise(cuts[1:])]
    try:
        loop(0, cuts[1], *arguments)
    finally:
        wait(others)  # even after an error: no thread may write into these arrays later
    for other in others:
        other.result()
