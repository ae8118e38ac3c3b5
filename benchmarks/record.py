"""The measurements as they are kept: an entry for each kind of processor and benchmark, with machine and date."""

import json
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from llvmlite import binding as llvm
from threadpoolctl import threadpool_info

from benchmarks.words import Figures, Measured
from issref.training.checkpoint import write_json
from issref.training.process import versions

HERE = Path(__file__).parent
Entries = dict[str, dict[str, Any]]  # by benchmark
Kinds = dict[str, Entries]  # by kind of processor
SIMULATED = {  # on a processor with AVX-512: OpenBLAS, numba, PyTorch and its libraries do not use it
    "OPENBLAS_CORETYPE": "Haswell",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
EXTRAS = ("torch", "onnx", "onnxruntime", "scipy")


def file_in(folder: Path) -> Path:
    """Return the path of the entries."""
    return folder / "results" / "benchmarks.json"


def kind() -> str:
    """AVX-512, AVX2, or `AVX2, simulated`: AVX-512 under the environment of SIMULATED; elsewhere the architecture.

    Raises ValueError if a part of this environment is set.
    """
    has = llvm.get_host_cpu_features()
    if not has.get("avx512f"):
        return "AVX2" if has.get("avx2") else platform.machine()
    found = {name: os.environ[name] for name in SIMULATED if name in os.environ}
    if found and found != SIMULATED:
        raise ValueError(f"environment: expected none of {list(SIMULATED)} or --simulate-avx2, got {found}")
    return "AVX2, simulated" if found else "AVX-512"


def load(folder: Path = HERE) -> Kinds:
    """Every entry kept so far."""
    return json.loads(file_in(folder).read_text()) if file_in(folder).exists() else {}


def keep(folder: Path, name: str, entry: dict[str, Any]) -> Kinds:
    """Write one benchmark's new entry for this kind of processor; the others stay as they are. Returns all."""
    kinds, mine = load(folder), kind()
    kinds[mine] = kinds.get(mine, {}) | {name: entry}
    file_in(folder).parent.mkdir(parents=True, exist_ok=True)
    write_json(file_in(folder), dict(sorted(kinds.items())))
    return load(folder)


def entry(figures: Figures, command: str, seconds: float, others: float) -> dict[str, Any]:
    """The figures of one benchmark and what they depend on; `others`: the cores that other processes kept busy."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "command": command,
        "seconds": round(seconds, 1),
        "others": round(max(others, 0.0), 2),
        "versions": environment(),
        "figures": {name: float(f"{value:.6g}") for name, value in figures.items()},
    }


def figures_of(entries: Entries) -> Measured:
    """The figures of each benchmark that has an entry."""
    return {name: entry["figures"] for name, entry in entries.items()}


def environment() -> dict[str, Any]:
    """The machine and the versions of everything that is measured or compared with."""
    return {**versions(), "blas": blas(), "processor": processor(), **extras()}


def extras() -> dict[str, str]:
    """The versions of the frameworks that are installed."""
    found = {}
    for package in EXTRAS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def blas() -> list[str]:
    """NumPy's BLAS with its threads; every BLAS in the process where it cannot be told which is NumPy's."""
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    own = [pool for pool in pools if "numpy" in pool["filepath"]]
    return [
        f"{pool['internal_api']} {pool['version']}, {pool.get('architecture')}, {pool['num_threads']} threads"
        for pool in own or pools
    ]


def processor() -> str:
    """The processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine()])[0]


def others_seconds() -> float:
    """Return the processor seconds used by other processes so far; 0 if the system does not report them.

    Time of finished child processes counts as this process's own.
    """
    if not Path("/proc/stat").exists():
        return 0.0
    user, nice, system, _, _, irq, softirq, *_ = Path("/proc/stat").read_text().split()[1:]
    busy = sum(map(int, (user, nice, system, irq, softirq))) / os.sysconf("SC_CLK_TCK")
    return busy - sum(os.times()[:4])
