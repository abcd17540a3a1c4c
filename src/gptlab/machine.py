"""What this machine can do: cores, memory, GPUs, and whether bfloat16 pays.

Nothing here tells who runs it: no environment variables, no names of users or hosts, no paths.
"""

import ctypes
import math
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

FASTER = 1.3  # what bfloat16 must gain on a CPU to be worth its rounding
PROBE_SECONDS = 0.03  # per number format
DOUBT_SECONDS = 0.15  # in all, before bfloat16 is said not to pay
LEAST_PRODUCTS = 5  # the fastest counts, so that a short disturbance does not decide
BANDWIDTH_BYTES = 2**28  # more than any cache holds
MEMORY_LIMITS = (  # of a container, by the second and the first version of Linux's control groups
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


def describe() -> dict[str, Any]:
    """Collect what does not change while the machine runs; sizes are in bytes."""
    return {
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cpu": cpu_name(),
        "cores": {"usable": usable_cores(), "physical": physical_cores()},
        "memory": total_memory(),
        "torch": _describe_torch(),
        "gpus": _describe_gpus(),
        "versions": library_versions(),
    }


def cpu_name() -> str:
    """Name the processor as its maker does, where the system tells."""
    if sys.platform == "linux":
        named = re.search(r"^model name\s*: (.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
        return named[1] if named else platform.machine()
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string") or platform.machine()
    return platform.processor()


def usable_cores() -> int:
    """How many logical cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_cores() -> int | None:
    """How many physical cores those are; None where the system does not tell simply."""
    if sys.platform == "darwin":
        return int(_sysctl("hw.physicalcpu") or 0) or None
    if sys.platform != "linux":
        return None
    topology = [f"/sys/devices/system/cpu/cpu{i}/topology" for i in os.sched_getaffinity(0)]
    cores = {(_read(f"{x}/physical_package_id"), _read(f"{x}/core_id")) for x in topology}
    return len(cores - {("", "")}) or None


def total_memory() -> int:
    """Bytes of main memory that this process may use at most."""
    if sys.platform == "win32":
        return _windows_memory()[0]
    limits = [int(text) for path in MEMORY_LIMITS if (text := _read(path)).isdecimal()]
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *limits])


def available_memory() -> int | None:
    """Bytes of main memory that are free now; None where the system does not tell simply."""
    if sys.platform == "win32":
        return _windows_memory()[1]
    available = re.search(r"^MemAvailable:\s*(\d+) kB$", _read("/proc/meminfo"), re.MULTILINE)
    return min(int(available[1]) * 1024, total_memory()) if available else None


def is_out_of_memory(error: Exception) -> bool:
    """Recognise it on every device: torch has a type of error for some of them only."""
    signs = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
    )


def choose_device(name: str, setting: str) -> str:
    """Turn `auto` into `cuda` or `cpu`; ValueError, naming the setting, for what is not here."""
    import torch

    has = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return "cuda" if has["cuda"] else "cpu"
    if name not in has:
        raise ValueError(f"{setting}={name} must be auto, {', '.join(has)}")
    if not has[name]:
        raise ValueError(f"{setting}={name}, but there is none here: use {setting}=cpu")
    return name


def bf16_is_fast(device: str) -> bool:
    """Tell whether bfloat16 pays on a `cpu`, `cuda` or `mps` device.

    It does on a GPU built for it, and on a CPU where a probe finds it faster: without instructions
    of its own it can be a hundred times slower. On `mps` float32 is the safe answer.
    """
    if device == "cuda":
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and bf16_speedup() >= FASTER


@cache
def bf16_speedup() -> float:
    """How many times faster the CPU multiplies matrices in bfloat16 than in float32.

    Both in turns, the fastest of each, so that what disturbs a moment disturbs both. What finds
    bfloat16 slow takes longer: two runs of one recipe must not differ in precision because other
    work went on while one of them began.
    """
    products = _product("cpu", "bfloat16", 512), _product("cpu", "float32", 512)
    fastest, began = [math.inf, math.inf], time.perf_counter()

    def is_clear() -> bool:
        pays = fastest[0] * FASTER <= fastest[1]
        return pays or time.perf_counter() - began > DOUBT_SECONDS

    turns = 0
    while turns <= LEAST_PRODUCTS or not is_clear():
        seconds = [_once(product, "cpu") for product in products]
        if turns:  # the first loads the kernels
            fastest = [min(pair) for pair in zip(fastest, seconds, strict=True)]
        turns += 1
    return fastest[1] / fastest[0]


def peak_flops(device: str, precision: str) -> float:
    """FLOPs per second of a large matrix product, measured; precision is `float32` or `bf16`."""
    dtype = "bfloat16" if precision == "bf16" else "float32"
    return product_speed(device, dtype, 8192 if device == "cuda" else 1024)


@cache
def product_speed(device: str, dtype: str, n: int) -> float:
    """FLOPs per second of an n x n x n matrix product: the fastest of a few, measured once."""
    return 2 * n**3 / _seconds(_product(device, dtype, n), device)


@cache
def memory_bandwidth(device: str) -> float:
    """Bytes per second that a device reads or writes beyond its caches, measured once.

    The faster of copying, which does both, and adding up, which reads alone.
    """
    import torch

    source = torch.ones(BANDWIDTH_BYTES // 4, device=device)
    target = torch.zeros_like(source)
    copying = _seconds(lambda: target.copy_(source), device)
    return max(2 * source.nbytes / copying, source.nbytes / _seconds(source.sum, device))


def library_versions() -> dict[str, str]:
    """Versions of what gptlab always needs."""
    return {
        package: metadata.version(package)
        for package, extra in _requirements()
        if extra is None and _is_installed(package)
    }


def missing_extras() -> dict[str, list[str]]:
    """List, for each extra of gptlab's own metadata, the packages that are not installed."""
    missing: dict[str, list[str]] = {}
    for package, extra in _requirements():
        if extra is not None:
            packages = missing.setdefault(extra, [])
            packages += [] if _is_installed(package) else [package]
    return missing


def _product(device: str, dtype: str, n: int) -> Callable[[], Any]:
    import torch

    generator = torch.Generator(device).manual_seed(0)
    empty = torch.empty(n, n, dtype=getattr(torch, dtype), device=device)
    a, b = empty.normal_(generator=generator), empty.clone().normal_(generator=generator)
    return lambda: torch.mm(a, b)


def _seconds(compute: Callable[[], Any], device: str) -> float:
    """How long it takes: the fastest of a few times, after a first one that loads its kernel."""
    _once(compute, device)
    times = [_once(compute, device) for _ in range(LEAST_PRODUCTS)]
    while len(times) < 2 * LEAST_PRODUCTS and sum(times) < PROBE_SECONDS:
        times.append(_once(compute, device))
    return min(times)


def _once(compute: Callable[[], Any], device: str) -> float:
    began = time.perf_counter()
    compute()
    if device != "cpu":
        import torch

        torch.accelerator.synchronize()
    return time.perf_counter() - began


def _requirements() -> Iterator[tuple[str, str | None]]:
    """Read gptlab's requirements as (package, extra); none if it runs without being installed."""
    try:
        lines = metadata.requires("gptlab") or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        package, extra = re.match(r"[\w.-]+", line), re.search(r"""extra == ['"](.+?)['"]""", line)
        assert package
        yield package[0], extra and extra[1]


def _is_installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


def _describe_torch() -> dict[str, Any]:
    import torch

    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "bf16_instructions": sorted(x for x in capabilities if "bf16" in x and capabilities[x]),
    }


def _describe_gpus() -> list[dict[str, Any]]:
    import torch

    if torch.backends.mps.is_available():
        return [{"name": "Apple GPU (mps)", "memory": torch.mps.recommended_max_memory()}]
    gpus = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [
        {
            "name": gpu.name,
            "memory": gpu.total_memory,
            "compute_capability": f"{gpu.major}.{gpu.minor}",
            "bf16": bf16_is_fast("cuda"),
        }
        for gpu in gpus
    ]


def _read(path: str) -> str:
    """Read one of the system's own small files; empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _sysctl(name: str) -> str:
    """Ask macOS; empty if it does not know."""
    done = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True)
    return done.stdout.strip()


def _windows_memory() -> tuple[int, int]:
    """Ask Windows for total and available bytes: GlobalMemoryStatusEx."""
    assert sys.platform == "win32"
    status = (ctypes.c_uint64 * 8)()  # MEMORYSTATUSEX: two 32-bit fields, then seven of 64 bits
    ctypes.cast(status, ctypes.POINTER(ctypes.c_uint32))[0] = ctypes.sizeof(status)
    ctypes.windll.kernel32.GlobalMemoryStatusEx(status)
    return status[1], status[2]
