"""The threads that share out a large loop: one a core, or as many as `limited` says.

NumPy's products have the threads of the BLAS, which `issref.openblas` keeps out of the way of these.
"""

import functools
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar

WORTH = 300_000  # nanoseconds of work from which on a loop is shared; to hand a piece over costs some 20,000
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_most: ContextVar[int] = ContextVar("most", default=CORES)


@contextmanager
def limited(most: int | None) -> Iterator[None]:
    """While active, at most so many threads, for the loops of this thread and for the BLAS; None: one a core."""
    from threadpoolctl import threadpool_limits

    before = _most.set(min(most or CORES, CORES))
    try:
        with threadpool_limits(most, user_api="blas"):
            yield
    finally:
        _most.reset(before)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(CORES, thread_name_prefix="issref")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child process has none of its parent's threads


def share_out(loop, count: int, nanoseconds: float, *arguments) -> None:
    """loop(start, stop, *arguments) over [0, count), in one piece or, if the work is worth it, a piece a thread.

    What is computed is the same however many pieces there are.
    """
    pieces = max(1, min(_most.get(), count)) if nanoseconds > WORTH else 1
    cuts = [count * piece // pieces for piece in range(pieces + 1)]
    others = [_pool().submit(loop, *ends, *arguments) for ends in itertools.pairwise(cuts[1:])]
    try:
        loop(0, cuts[1], *arguments)
    finally:
        wait(others)  # whatever happens, nobody writes into these arrays later
    for other in others:
        other.result()
