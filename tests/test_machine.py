import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gptlab import machine


def test_torch_is_imported_only_when_it_is_needed():
    code = "import sys, gptlab.machine as m; m.total_memory(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_description_is_plain_data_without_paths_or_environment(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("MY_TOKEN", "secret-3141")
    about = machine.describe()
    text = json.dumps(about)
    assert json.loads(text) == about
    assert "secret-3141" not in text
    assert sys.prefix not in text
    assert str(Path.home()) not in text
    assert about["versions"]["torch"] == about["torch"]["version"]
    assert about == machine.describe()  # only what does not change


def test_memory_is_that_of_a_real_machine():
    available = machine.available_memory()
    assert machine.total_memory() > 2**28
    assert available is None or 0 < available <= machine.total_memory()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no control groups")
def test_a_containers_limit_is_the_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    whole = machine.total_memory()
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "MEMORY_LIMITS", (str(limit), str(tmp_path / "nothing")))
    limit.write_text("123456789\n")
    assert machine.total_memory() == 123456789
    limit.write_text("max\n")
    assert machine.total_memory() >= whole


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds a process to cores")
def test_only_cores_that_the_process_may_use_count():
    code = (
        "import os; from gptlab import machine as m; "
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "print(m.usable_cores(), m.physical_cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() in (["1", "1"], ["1", "None"])
    assert machine.usable_cores() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("speedup", "is_fast"), [(0.01, False), (1.29, False), (1.31, True)])
def test_a_cpu_uses_bf16_only_where_it_gains(
    monkeypatch: pytest.MonkeyPatch, speedup: float, is_fast: bool
):
    speeds = {"float32": 1e11, "bfloat16": speedup * 1e11}
    monkeypatch.setattr(machine, "product_speed", lambda device, dtype, n: speeds[dtype])
    monkeypatch.setattr(machine, "bf16_speedup", lambda: speedup)
    assert machine.bf16_is_fast("cpu") is is_fast
    assert machine.bf16_is_fast("mps") is False
    assert machine.peak_flops("cpu", "bf16") == speeds["bfloat16"]
    assert machine.peak_flops("cpu", "float32") == speeds["float32"]


@pytest.mark.parametrize(("disturbed", "is_fast"), [(20, True), (10**9, False)])
def test_other_work_does_not_decide_the_precision(
    monkeypatch: pytest.MonkeyPatch, disturbed: int, is_fast: bool
):
    products = []

    def once(product: str, device: str) -> float:
        products.append(product)
        clock[0] += 0.001
        return {"bfloat16": 0.001, "float32": 0.004}[product] * (
            10 if product == "bfloat16" and len(products) < disturbed else 1
        )

    clock = [0.0]
    monkeypatch.setattr(machine, "_product", lambda device, dtype, n: dtype)
    monkeypatch.setattr(machine, "_once", once)
    monkeypatch.setattr(machine.time, "perf_counter", lambda: clock[0])
    machine.bf16_speedup.cache_clear()
    try:
        assert machine.bf16_is_fast("cpu") is is_fast
    finally:
        machine.bf16_speedup.cache_clear()
    assert set(products[0::2]) == {"bfloat16"}
    assert set(products[1::2]) == {"float32"}
    assert clock[0] < 1


@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_uses_bf16_if_it_is_built_for_it(monkeypatch: pytest.MonkeyPatch, supported: bool):
    import torch

    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: supported, raising=True
    )
    assert machine.bf16_is_fast("cuda") is supported


def test_the_probe_runs_once_and_leaves_random_numbers_alone():
    import torch

    machine.product_speed.cache_clear()
    before = torch.get_rng_state()
    speed = machine.product_speed("cpu", "float32", 64)
    assert machine.product_speed("cpu", "float32", 64) == speed > 0
    assert machine.product_speed.cache_info().misses == 1
    assert torch.equal(torch.get_rng_state(), before)


def test_missing_packages_are_read_from_the_metadata(monkeypatch: pytest.MonkeyPatch):
    lines = [
        "numpy>=2",
        "no-such-package>=1",
        'numpy>=2; extra == "known"',
        'no-such-package[fast]>=1.5; extra == "plot"',
        "pydantic<3,>=2; python_version < '4' and extra == 'plot'",
    ]
    monkeypatch.setattr(machine.metadata, "requires", lambda name: lines)
    assert machine.missing_extras() == {"known": [], "plot": ["no-such-package"]}
    assert list(machine.library_versions()) == ["numpy"]


def test_gptlab_need_not_be_installed(monkeypatch: pytest.MonkeyPatch):
    def requires(name: str) -> list[str]:
        raise machine.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(machine.metadata, "requires", requires)
    assert machine.missing_extras() == machine.library_versions() == {}


def test_the_bandwidth_is_measured_once():
    machine.memory_bandwidth.cache_clear()
    speed = machine.memory_bandwidth("cpu")
    assert machine.memory_bandwidth("cpu") == speed > 1e8
    assert machine.memory_bandwidth.cache_info().misses == 1
