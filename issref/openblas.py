"""Make idle OpenBLAS threads sleep; must be imported before NumPy, because OpenBLAS reads the setting when loaded.

By default they spin for 2^26 cycles, about 27 ms, after each product, on cores that the threads of
`kernels.parallel` or another process could use. A value that the environment already has is not changed.
"""

import os

os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "14")  # 2^14 cycles, about 7 microseconds
