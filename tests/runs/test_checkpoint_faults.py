"""A save that is killed, cut from power or refused by the disk; files that were cut or changed."""

import errno
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from disk import (
    KILLED,
    Fault,
    PowerCut,
    assert_whole,
    changes_of,
    die,
    die_halfway,
    fault_at,
    flip_bit,
    full,
    full_halfway,
    in_fork,
    save,
    watched,
)

from gptlab import files
from gptlab.runs import checkpoint
from gptlab.runs.manifest import is_valid

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
Work = Callable[[Path], None]


def save_the_first(folder: Path) -> None:
    save(folder, 20)


def save_the_next(folder: Path) -> None:
    save(folder, 20)


def save_over_a_damaged_one(folder: Path) -> None:
    save(folder, 20)


def save_and_prune(folder: Path) -> None:
    save(folder, 20)
    checkpoint.prune(folder, keep_last=1, best_step=None)


WORKS = [save_the_first, save_the_next, save_over_a_damaged_one, save_and_prune]


def prepare(folder: Path, work: Work) -> None:
    folder.parent.mkdir()
    if work is not save_the_first:
        save(folder, 10)
    if work is save_over_a_damaged_one:
        flip_bit(save(folder, 20) / "model.safetensors", 1000)


def assert_nothing_is_lost(folder: Path, work: Work, finished: bool) -> None:
    """The newest whole checkpoint is the old or the new one; all that has a name is whole."""
    warnings: list[str] = []
    found = checkpoint.newest(folder, warnings.append)
    for step, path in checkpoint.every(folder):
        assert is_valid(path) or (work is save_over_a_damaged_one and step == 20)
    assert warnings == [] or (work is save_over_a_damaged_one and len(warnings) == 1)
    if found is None:
        assert work is save_the_first
        assert not finished
    else:
        assert_whole(found, int(found.name[-8:]))
        assert found.name == "step-00000020" or not finished
    if found is None or found.name != "step-00000020":
        save(folder, 20)
    checkpoint.prune(folder, keep_last=2, best_step=None)
    assert_whole(folder / "step-00000020", 20)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@forks
@pytest.mark.parametrize("manner", ["kill", "kill halfway", "power cut", "power cut with names"])
@pytest.mark.parametrize("work", WORKS)
def test_dying_at_any_change_loses_nothing(tmp_path: Path, work: Work, manner: str):
    prepare(tmp_path / "counted" / "checkpoints", work)
    n_changes = len(changes_of(lambda: work(tmp_path / "counted" / "checkpoints")))
    assert n_changes >= 14

    def until(turn: int, folder: Path) -> None:
        if manner.startswith("power"):
            cut = PowerCut(turn, names_too=manner.endswith("names"))
            with watched(cut):
                work(folder)
            cut.cut()
        with fault_at(turn, die if manner == "kill" else die_halfway):
            work(folder)
        os._exit(KILLED)

    prepare(tmp_path / "prepared" / "checkpoints", work)
    for turn in range(n_changes + 1):  # at the last turn the work is done
        run = tmp_path / str(turn)
        shutil.copytree(tmp_path / "prepared", run)
        assert in_fork(lambda at=turn, run=run: until(at, run / "checkpoints")) == KILLED
        assert_nothing_is_lost(run / "checkpoints", work, finished=turn == n_changes)


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("fault", [full, full_halfway])
@pytest.mark.parametrize("work", WORKS[:3])
def test_a_full_disk_loses_nothing(tmp_path: Path, work: Work, fault: Fault, lasting: bool):
    prepare(tmp_path / "counted" / "checkpoints", work)
    changes = changes_of(lambda: work(tmp_path / "counted" / "checkpoints"))
    prepare(tmp_path / "prepared" / "checkpoints", work)
    for turn, change in enumerate(changes):
        if change == "remove":  # removing needs no room
            continue
        folder = tmp_path / str(turn) / "checkpoints"
        shutil.copytree(tmp_path / "prepared", folder.parent)
        with pytest.raises(files.WriteError) as caught, fault_at(turn, fault, lasting):
            work(folder)
        message = str(caught.value)
        assert f"{folder / 'step-00000020'} could not be written: {os.strerror(28)}" in message
        assert "intact" in message
        if folder.is_dir():
            left = [path for path in folder.iterdir() if path.name.startswith(".tmp")]
            assert len(left) <= 2 if lasting else not left
            assert_nothing_is_lost(folder, work, finished=False)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EIO, errno.ENOENT])
def test_every_refusal_names_the_path_and_the_reason(tmp_path: Path, code: int):
    def refuse(name: str, change: object, given: object) -> None:
        raise OSError(code, os.strerror(code), "some inner file")

    save(tmp_path, 10)
    with pytest.raises(files.WriteError) as caught, fault_at(3, refuse):
        save(tmp_path, 20)
    assert str(tmp_path / "step-00000020") in str(caught.value)
    assert os.strerror(code) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limit on the size of files")
@pytest.mark.parametrize(
    "limit", [0, 1, 30, 60, 300, 900, 2_000, 5_000, 9_999, 10_100, 15_000, 20_200]
)
def test_a_real_refusal_in_the_middle_of_a_file(tmp_path: Path, limit: int):
    """The kernel cuts a write at `limit` bytes: in the state, the tensors, or the manifest."""
    import resource

    save(tmp_path, 10, size=50)
    sizes = [path.stat().st_size for path in (tmp_path / "step-00000010").iterdir()]
    assert max(sizes) > 20_200

    def save_with_limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(files.WriteError, match="step-00000020 could not be written: File too"):
            save(tmp_path, 20, size=50)

    assert in_fork(save_with_limit) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010"]
    assert_whole(tmp_path / "step-00000010", 10, size=50)
    save(tmp_path, 20, size=50)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="an administrator may write anywhere"
)
def test_a_folder_that_became_read_only(tmp_path: Path):
    folder = tmp_path / "checkpoints"
    save(folder, 10)
    folder.chmod(0o500)
    try:
        with pytest.raises(files.WriteError, match="step-00000020 could not be written: Permiss"):
            save(folder, 20)
        checkpoint.prune(folder, keep_last=1, best_step=None)
        assert_whole(folder / "step-00000010", 10)
    finally:
        folder.chmod(0o700)


def test_a_run_deleted_meanwhile_is_not_made_anew(tmp_path: Path):
    folder = tmp_path / "run" / "checkpoints"
    folder.parent.mkdir()
    save(folder, 10)
    shutil.rmtree(folder.parent)
    with pytest.raises(files.WriteError, match="step-00000020 could not be written: No such"):
        save(folder, 20)
    assert not folder.parent.exists()


def test_a_mistake_of_ours_leaves_nothing_behind(tmp_path: Path):
    save(tmp_path, 10)
    with pytest.raises(TypeError, match="not JSON serializable"):
        checkpoint.save(tmp_path, 20, {}, {"state": object()})
    with pytest.raises(AttributeError):
        checkpoint.save(tmp_path, 20, {"model": {"weight": "no tensor"}}, {})  # pyright: ignore
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010"]


FILES = [
    "model.safetensors",
    "optimizer.safetensors",
    "random.safetensors",
    "state.json",
    "MANIFEST.json",
]


@pytest.mark.parametrize("kept", [0, 1, "10 %", "50 %", "99.9 %", "one byte more"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_length_is_noticed(tmp_path: Path, name: str, kept: int | str):
    save(tmp_path, 10)
    file = save(tmp_path, 20) / name
    data = file.read_bytes()
    if kept == "one byte more":
        file.write_bytes(data + b"\n")
    else:
        length = kept if isinstance(kept, int) else int(len(data) * float(kept[:-2]) / 100)
        assert length < len(data)
        file.write_bytes(data[:length])
    with pytest.raises(ValueError, match=name):
        checkpoint.load(file.parent)
    warnings: list[str] = []
    found = checkpoint.newest(tmp_path, warnings.append)
    assert found == tmp_path / "step-00000010"
    assert len(warnings) == 1
    assert name in warnings[0]


def test_200_flipped_bits_are_all_noticed(tmp_path: Path):
    save(tmp_path, 10)
    path = save(tmp_path, 20)
    choose = random.Random(0)
    for trial in range(200):
        file = path / FILES[trial % len(FILES)]
        bit = choose.randrange(8 * file.stat().st_size)
        flip_bit(file, bit)
        with pytest.raises(ValueError, match="step-00000020 is damaged"):
            checkpoint.load(path)
        assert checkpoint.newest(tmp_path, lambda _: None) == tmp_path / "step-00000010"
        flip_bit(file, bit)
    assert_whole(path, 20)


def test_every_bit_of_a_manifest_matters(tmp_path: Path):
    """No flip is harmless: there is one way to write a manifest, and all it says is compared."""
    path = checkpoint.save(tmp_path, 1, {}, {})
    manifest = path / "MANIFEST.json"
    data = manifest.read_bytes()
    for bit in range(8 * len(data)):
        flip_bit(manifest, bit)
        with pytest.raises(ValueError, match="step-00000001 is damaged"):
            checkpoint.verify(path)
        manifest.write_bytes(data)
    checkpoint.verify(path)
