"""Decorators that compile a loop with numba, without the GIL, so that several threads can run it (`parallel`).

numba stores what it has compiled in a file. A stored file that is damaged, or cannot be written, costs the time to
compile again, and a warning.
"""

import functools
import hashlib
import logging
import warnings
from contextlib import suppress
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache

DISABLED = bool(numba.config.DISABLE_JIT)  # type: ignore[attr-defined]


class _Checksummed(CompileResultCacheImpl):
    """Store the SHA-256 of the machine code with it: damaged code could crash, or compute wrong numbers."""

    def reduce(self, cres):
        reduced = super().reduce(cres)
        return _checksum(reduced), reduced

    def rebuild(self, target_context, payload):
        if len(payload) != 2:
            return None  # stored by numba's own cache: compile again
        checksum, reduced = payload
        if checksum != _checksum(reduced):
            raise ValueError("another checksum")
        return super().rebuild(target_context, reduced)


class _Cache(FunctionCache):
    _impl_class = _Checksummed

    def load_overload(self, sig, target_context):
        try:
            found = super().load_overload(sig, target_context)
            if found is None:
                _announce()
            return found
        except Exception as error:  # unpickling a damaged file may raise anything
            _warn(f"{self.cache_path}: expected whole files of compiled loops, got {error!r}; compiled again")
            with suppress(OSError):
                self.flush()

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception as error:  # a full disk, or a damaged index that cannot be replaced
            found = getattr(error, "strerror", None) or repr(error)
            _warn(f"{self.cache_path}: expected to store compiled loops, got {found}; compiled again next time")


@functools.cache
def _announce() -> None:
    logging.getLogger(__name__).info("compiling loops for this machine, once: about ten seconds")


def _checksum(reduced) -> str:
    name_kind_code, *_ = reduced
    return hashlib.sha256(repr(name_kind_code).encode()).hexdigest()


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def compiled(**flags) -> Any:
    """Return a decorator that compiles a function with these flags, and stores it if there is a place for it."""

    def decorate(function):
        dispatcher: Any = numba.njit(error_model="numpy", **flags)(function)
        if not DISABLED:
            try:
                dispatcher._cache = _Cache(function)
            except RuntimeError:  # installation and home are read-only
                _warn("numba: expected a folder for compiled loops, got none writable; compiled at every start. "
                      "NUMBA_CACHE_DIR can name one")  # fmt: skip
        return dispatcher

    return decorate


# contract: a * b + c is rounded once. reassoc: a sum is kept in several lanes. Both change last digits only.
jit = compiled(nogil=True, fastmath={"contract"})
jit_sum = compiled(nogil=True, fastmath={"contract", "reassoc", "nsz"})
# For functions that loops call: they become part of each loop. Else a process that compiles calls the function's
# own code, and one that reads the stored loop the copy in it, which may sum in other lanes: other last digits.
inlined = compiled(nogil=True, fastmath={"contract"}, forceinline=True)
inlined_sum = compiled(nogil=True, fastmath={"contract", "reassoc", "nsz"}, forceinline=True)
