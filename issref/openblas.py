"""OpenBLAS's threads, told before NumPy loads them to sleep when they are idle.

After each product they spin for 2^26 cycles, some 27 ms, on cores that the threads of `kernels.threads`, or
another process, could use. It is a setting of OpenBLAS's environment; one that is there already stays.
"""

import os

os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "14")  # 2^14 cycles, some 7 microseconds
