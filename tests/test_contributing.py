"""The worked example of CONTRIBUTING.md works: its file is a part, and its commands run."""

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gptlab import cli
from gptlab.config import variant_names
from gptlab.model.gpt import Model
from gptlab.parts import mlp
from gptlab.parts.mlp import MLP

ROOT = Path(__file__).parent.parent
CONTRACTS = ROOT / "tests" / "parts" / "test_contracts.py"
EXAMPLE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Add a part")[2]
VARIANT = "silu"


def block(language: str) -> str:
    """The first block of code in this language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", EXAMPLE, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


@pytest.fixture(autouse=True)
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the example's file into the slot, as far as this test can see."""
    assert f"`src/gptlab/parts/mlp/{VARIANT}.py`" in EXAMPLE
    assert VARIANT not in variant_names(MLP), "the example is a part by now: choose another one"
    (tmp_path / f"{VARIANT}.py").write_text(block("python"), encoding="utf-8")
    monkeypatch.setattr(mlp, "__path__", [*mlp.__path__, str(tmp_path)])
    yield
    sys.modules.pop(f"{mlp.__name__}.{VARIANT}", None)
    if hasattr(mlp, VARIANT):
        delattr(mlp, VARIANT)


def load_again(path: Path) -> ModuleType:
    spec = spec_from_file_location("tests_with_the_example", path)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_is_a_variant():
    assert VARIANT in variant_names(MLP)
    part: Any = MLP.parse({"type": VARIANT, "beta": 1.702})
    assert (part.variant, part.beta) == (VARIANT, 1.702)


def test_the_contracts_find_it_and_it_keeps_them(tiny: Callable[..., Model]):
    contracts = load_again(CONTRACTS)
    parts = {"mlp": {"type": VARIANT}}
    assert parts in contracts.CASES
    tests = [test for name, test in vars(contracts).items() if name.startswith("test_")]
    assert len(tests) >= 8
    for test in tests:
        test(tiny, parts)


def test_its_commands_run(capsys: pytest.CaptureFixture[str]):
    commands = [shlex.split(line, comments=True) for line in block("sh").splitlines()]
    for program, *words in commands:
        if program == "pytest":
            assert all((ROOT / word).is_dir() for word in words[: words.index("-k")])
            continue
        assert program == "gptlab"
        dry = ["--dry-run"] if words[0] == "train" else []
        with pytest.raises(SystemExit) as end:
            cli.main(words + dry)
        assert not end.value.code
        assert VARIANT in capsys.readouterr().out
    assert {words[0] for program, *words in commands if program == "gptlab"} >= {"parts", "show"}
