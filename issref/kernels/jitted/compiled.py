"""How the loops are compiled: nothing of Python inside, so threads may share one out (`threads`)."""

import numba

# contract: a * b + c rounded once; reassoc: a sum kept in several lanes. Both move last digits only. nnan, in the
# search for the largest of a row, leaves NaN to the sum that follows it.
loop = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
sum_loop = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
max_loop = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"nnan", "nsz"})
