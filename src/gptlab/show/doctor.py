"""`gptlab doctor`: what this machine can do, as a block to paste into a bug report."""

from typing import Any

import gptlab
from gptlab import machine


def doctor() -> None:
    """Print a block of Markdown; it holds no environment variables, names of users, or paths."""
    print("```text")
    for name, value in facts().items():
        print(f"{name + ':':<16} {value}")
    print("```")


def facts() -> dict[str, str]:
    """Collect a line for each thing worth knowing."""
    about = machine.describe()
    torch, cores, available = about["torch"], about["cores"], machine.available_memory()
    free = "" if available is None else f", {available / 1e9:.1f} GB available"
    return {
        "gptlab": gptlab.__version__,
        "system": about["system"],
        "python": about["python"],
        "cpu": f"{about['cpu']}, {torch['cpu_capability']}",
        "cores": f"{cores['usable']} usable, {cores['physical'] or 'unknown'} physical",
        "memory": f"{about['memory'] / 1e9:.1f} GB{free}",
        "torch": f"{torch['version']}, {torch['threads']} threads, CUDA {torch['cuda'] or 'none'}",
        "bf16 on the CPU": _bf16(torch["bf16_instructions"]),
        "GPUs": "; ".join(map(_gpu, about["gpus"])) or "none",
        "versions": ", ".join(f"{name} {v}" for name, v in about["versions"].items()),
        "missing": _missing(machine.missing_extras()),
    }


def _bf16(instructions: list[str]) -> str:
    verdict = "used" if machine.bf16_is_fast("cpu") else "not used"
    speed = f"{machine.bf16_speedup():.2g} times the speed of float32, so {verdict}"
    return f"{speed} by precision=auto; instructions: {', '.join(instructions) or 'none known'}"


def _gpu(gpu: dict[str, Any]) -> str:
    rest = "".join(f", {name} {gpu[name]}" for name in gpu if name not in ("name", "memory"))
    return f"{gpu['name']}, {gpu['memory'] / 1e9:.1f} GB{rest}"


def _missing(extras: dict[str, list[str]]) -> str:
    lacking = {extra: packages for extra, packages in extras.items() if packages}
    return "; ".join(f"for [{x}]: {', '.join(names)}" for x, names in lacking.items()) or "nothing"
