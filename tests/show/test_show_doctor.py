import sys
from pathlib import Path

import pytest

from gptlab import __version__, machine
from gptlab.show.doctor import doctor


def test_the_report_is_a_block_without_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MY_TOKEN", "secret-3141")
    monkeypatch.setattr(machine, "missing_extras", lambda: {"plot": ["abc", "xyz"], "none": []})
    doctor()
    out = capsys.readouterr().out
    first, *lines, last = out.splitlines()
    assert (first, last) == ("```text", "```")
    found = {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}
    assert found["gptlab"] == __version__
    assert found["missing"] == "for [plot]: abc, xyz"
    assert f"{machine.usable_cores()} usable" in found["cores"]
    for secret in ("secret-3141", str(Path.home()), sys.prefix):
        assert secret not in out


@pytest.mark.parametrize(("is_fast", "verdict"), [(True, "so used"), (False, "so not used")])
def test_the_report_says_whether_bf16_is_used(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    is_fast: bool,
    verdict: str,
):
    monkeypatch.setattr(machine, "bf16_is_fast", lambda device: is_fast)
    doctor()
    assert verdict in capsys.readouterr().out


def test_gpus_are_described(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    gpu = {"name": "Fast One", "memory": 16_000_000_000, "bf16": True}
    about = machine.describe() | {"gpus": [gpu]}
    monkeypatch.setattr(machine, "describe", lambda: about)
    doctor()
    assert "Fast One, 16.0 GB, bf16 True" in capsys.readouterr().out
