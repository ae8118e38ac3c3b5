"""Decorators that compile a loop with numba, without the GIL, so that several threads can run it (`parallel`)."""

import numba

# contract: a * b + c is rounded once. reassoc: a sum is kept in several lanes. Both change last digits only.
# nnan: the search for the largest entry of a row ignores NaN; the sum that follows it returns NaN.
jit = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
jit_sum = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
jit_max = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"nnan", "nsz"})
