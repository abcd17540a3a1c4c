"""What a checkpoint keeps, which one is taken, and which ones go."""

import math
import random
import shutil
from pathlib import Path

import pytest
import torch
from disk import assert_whole, flip_bit, forge, save
from safetensors.torch import save as to_bytes

from gptlab.runs import checkpoint
from gptlab.runs.checkpoint import every, load, newest, prune


def refuse_to_warn(message: str) -> None:
    raise AssertionError(message)


def steps(folder: Path) -> list[int]:
    return [step for step, _ in every(folder)]


def test_tensors_come_back_bit_for_bit(tmp_path: Path):
    tensors = {
        "float": torch.randn(3, 5),
        "not_a_number": torch.tensor([math.nan, math.inf, -0.0]),
        "bfloat": torch.randn(4).bfloat16(),
        "integer": torch.tensor([2**62, -1]),
        "byte": torch.arange(256).byte(),
        "truth": torch.tensor([True, False]),
        "scalar": torch.tensor(3.5),
        "nothing": torch.empty(0, 4),
        "turned": torch.randn(4, 6).T,
        "part": torch.randn(10)[::2],
        "trained": torch.randn(2, requires_grad=True),
    }
    path = checkpoint.save(tmp_path / "checkpoints", 3, {"model": tensors, "optimizer": {}}, {})
    loaded = load(path).tensors
    assert loaded["optimizer"] == {}
    assert loaded["model"].keys() == tensors.keys()
    for name, tensor in tensors.items():
        read = loaded["model"][name]
        assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape)
        original = tensor.detach().contiguous().flatten()
        assert torch.equal(read.flatten().view(torch.uint8), original.view(torch.uint8)), name


def test_state_comes_back_exactly(tmp_path: Path):
    state = {"step": 2**60, "loss": 0.1 + 0.2, "tiny": 5e-324, "best": None, "of": ["é", {"a": []}]}
    path = checkpoint.save(tmp_path, 1, {}, {**state, "grad_norm": math.nan, "worst": -math.inf})
    read = load(path).state
    assert math.isnan(read.pop("grad_norm"))
    assert read == {**state, "worst": -math.inf}


def test_layout(tmp_path: Path):
    path = save(tmp_path / "checkpoints", 40)
    assert path == tmp_path / "checkpoints" / "step-00000040"
    assert sorted(file.name for file in path.iterdir()) == [
        "MANIFEST.json",
        "model.safetensors",
        "optimizer.safetensors",
        "random.safetensors",
        "state.json",
    ]
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert len({file.stat().st_mode for file in path.iterdir()}) == 1  # readable alike


def test_a_loaded_checkpoint_outlives_its_files(tmp_path: Path):
    path = save(tmp_path, 5)
    loaded = load(path)
    expected = loaded.tensors["model"]["weight"].clone()
    file = path / "model.safetensors"
    file.write_bytes(bytes(file.stat().st_size))
    assert torch.equal(loaded.tensors["model"]["weight"], expected)


def test_only_the_model_can_be_read(tmp_path: Path):
    path = save(tmp_path, 5)
    flip_bit(path / "optimizer.safetensors", 2000)
    loaded = load(path, only=("model",))
    assert list(loaded.tensors) == ["model"]
    assert loaded.state["step"] == 5
    with pytest.raises(ValueError, match=r"optimizer\.safetensors is not what was written"):
        load(path)
    flip_bit(path / "model.safetensors", 2000)
    with pytest.raises(ValueError, match=r"model\.safetensors is not what was written"):
        load(path, only=("model",))


def test_a_group_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match="no tensors named average"):
        load(save(tmp_path, 5), only=("average",))


def test_a_whole_checkpoint_is_never_overwritten(tmp_path: Path):
    save(tmp_path, 5)
    with pytest.raises(ValueError, match="step-00000005 exists already"):
        checkpoint.save(tmp_path, 5, {}, {"other": True})
    assert_whole(tmp_path / "step-00000005", 5)


@pytest.mark.parametrize("damage", ["flip", "empty", "file", "link"])
def test_a_damaged_checkpoint_is_replaced(tmp_path: Path, damage: str):
    folder, path = tmp_path / "checkpoints", tmp_path / "checkpoints" / "step-00000005"
    elsewhere = save(tmp_path / "elsewhere", 5)
    if damage == "flip":
        flip_bit(save(folder, 5) / "model.safetensors", 999)
    elif damage == "empty":
        path.mkdir(parents=True)
    elif damage == "file":
        folder.mkdir()
        path.write_text("not a folder")
    else:
        folder.mkdir()
        try:
            path.symlink_to(elsewhere, target_is_directory=True)
        except OSError:
            pytest.skip("this system lets only administrators make links")
    save(folder, 5)
    assert not path.is_symlink()
    assert_whole(path, 5)
    assert_whole(elsewhere, 5)
    assert [each.name for each in folder.iterdir()] == [path.name]


def test_only_whole_names_are_checkpoints(tmp_path: Path):
    for step in (100, 20, 3, 123_456_789):
        save(tmp_path, step)
    for other in (".tmp-step-00000007-ab", "step-7", "step-000000008", "step-0000000x", "best"):
        (tmp_path / other).mkdir()
    (tmp_path / "step-00000009").write_text("a file")
    assert steps(tmp_path) == [3, 20, 100, 123_456_789]
    assert newest(tmp_path, refuse_to_warn) == tmp_path / "step-123456789"
    assert steps(tmp_path / "missing") == []
    assert newest(tmp_path / "missing", refuse_to_warn) is None


def test_newest_passes_over_damaged_ones_and_says_so(tmp_path: Path):
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
    flip_bit(tmp_path / "step-00000004" / "optimizer.safetensors", 2000)
    (tmp_path / "step-00000003" / "MANIFEST.json").unlink()
    warnings: list[str] = []
    assert newest(tmp_path, warnings.append) == tmp_path / "step-00000002"
    assert len(warnings) == 2
    assert "step-00000004" in warnings[0]
    assert "optimizer.safetensors" in warnings[0]
    assert "step-00000003" in warnings[1]
    assert "MANIFEST.json" in warnings[1]
    for step in (1, 2):
        shutil.rmtree(tmp_path / f"step-0000000{step}")
    assert newest(tmp_path, warnings.append) is None


def test_a_folder_renamed_is_not_that_step(tmp_path: Path):
    save(tmp_path, 4).rename(tmp_path / "step-00000009")
    with pytest.raises(ValueError, match="it is of step 4, not what its folder is named"):
        load(tmp_path / "step-00000009")


def test_what_an_operating_system_drops_into_folders_is_harmless(tmp_path: Path):
    path = save(tmp_path, 4)
    for name in (".DS_Store", "._model.safetensors"):
        (path / name).write_bytes(b"\0")
    assert_whole(path, 4)


def test_a_missing_and_an_unknown_file_are_named(tmp_path: Path):
    path = save(tmp_path, 4)
    (path / "model.safetensors").rename(path / "other.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors is missing, other\.safetensors is n"):
        load(path)


def test_there_is_no_such_checkpoint(tmp_path: Path):
    with pytest.raises(ValueError, match="step-00000001 is not a checkpoint's folder"):
        load(tmp_path / "step-00000001")


def test_prune_keeps_the_last_and_the_best_and_clears_what_saves_left(tmp_path: Path):
    for step in (10, 20, 30, 40, 50):
        save(tmp_path, step)
    (tmp_path / ".tmp-step-00000060-0123" / "deep").mkdir(parents=True)
    (tmp_path / ".tmp-step-00000060-0123" / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".tmp-file").write_bytes(b"")
    prune(tmp_path, keep_last=2, best_step=20)
    assert sorted(path.name[-8:] for path in tmp_path.iterdir()) == [
        "00000020",
        "00000040",
        "00000050",
    ]
    prune(tmp_path, keep_last=1, best_step=None)
    assert steps(tmp_path) == [50]
    prune(tmp_path / "missing", keep_last=1, best_step=None)


def test_prune_counts_whole_ones_only_and_never_removes_the_last(tmp_path: Path):
    """A hundred random folders against the rule, written down once more."""
    choose = random.Random(0)
    model = to_bytes({"weight": torch.ones(3)})
    for trial in range(100):
        folder = tmp_path / str(trial)
        present = sorted(choose.sample(range(20), choose.randint(1, 6)))
        whole = [step for step in present if choose.random() < 0.6]
        for step in present:
            path = forge(folder, step, {"model.safetensors": model})
            if step not in whole:
                choose.choice(
                    [
                        lambda p=path: flip_bit(p / "model.safetensors", choose.randrange(600)),
                        lambda p=path: (p / "MANIFEST.json").unlink(),
                        lambda p=path: (p / "state.json").write_bytes(b"{"),
                    ]
                )()
        keep_last, best = choose.randint(1, 3), choose.choice([*present, None])
        prune(folder, keep_last, best)
        kept = set(whole[-keep_last:]) | {best} if whole else set(present)
        if len(present) <= keep_last:
            kept = set(present)
        assert steps(folder) == [step for step in present if step in kept]
        assert all(checkpoint.load(folder / f"step-{step:08d}") for step in whole[-keep_last:])
