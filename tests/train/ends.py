"""What is compared of two runs that must have ended alike."""

from pathlib import Path

from gptlab.runs import checkpoint
from gptlab.runs.folder import RunFolder

TIMING = ("seconds", "tokens_per_second", "model_flops_utilization")


def quiet(text: str) -> None:
    """Say nothing."""


def metrics(path: Path) -> list[dict[str, object]]:
    """Read all metrics but the times."""
    lines = RunFolder.open(path).metrics()[0]
    return [{k: v for k, v in line.items() if k not in TIMING} for line in lines]


def last_files(path: Path) -> dict[str, bytes]:
    """Read the weights, the optimizer and the random state of the last checkpoint."""
    _, newest = checkpoint.every(path / "checkpoints")[-1]
    return {file.name: file.read_bytes() for file in newest.glob("*.safetensors")}


def assert_same_end(a: Path, b: Path) -> None:
    """Assert that two runs ended byte for byte alike."""
    assert metrics(a) == metrics(b)
    one, other = last_files(a), last_files(b)
    names = {"model.safetensors", "optimizer.safetensors", "random.safetensors"}
    assert one.keys() == other.keys() == names
    for name, content in one.items():
        assert content == other[name], name
