"""A disk that fails on demand: faults at the n-th of a run's changes to it, and forged checkpoints.

Every change goes through a function of `gptlab.files`; here each is replaced by one that
counts, and lets a fault happen when its turn has come.
"""

import errno
import json
import os
import shutil
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptlab import files
from gptlab.runs import checkpoint

CHANGES = (
    "make_folder",
    "write",
    "write_tensors",
    "sync",
    "sync_folder",
    "rename",
    "remove",
    "append",
)
CONTENT = ("write", "write_tensors", "append")
KILLED = 77  # exit code of a process that died where it was told to

Change = Callable[..., None]
Fault = Callable[[str, Change, tuple[Any, ...]], None]


@contextmanager
def watched(watch: Fault) -> Iterator[None]:
    """Let `watch(name, change, arguments)` make, or not make, every change on the disk."""
    originals = {name: getattr(files, name) for name in CHANGES}
    for name, change in originals.items():
        setattr(files, name, lambda *given, n=name, c=change: watch(n, c, given))
    try:
        yield
    finally:
        for name, change in originals.items():
            setattr(files, name, change)


@contextmanager
def fault_at(turn: int, fault: Fault, lasting: bool = False) -> Iterator[None]:
    """Let a fault happen at one change, counted from 0, or at all from there on."""
    made = 0

    def watch(name: str, change: Change, given: tuple[Any, ...]) -> None:
        nonlocal made
        due = made >= turn if lasting else made == turn
        made += 1
        if due:
            fault(name, change, given)
        else:
            change(*given)

    with watched(watch):
        yield


def changes_of(work: Callable[[], object]) -> list[str]:
    """Do the work and name the changes it made."""
    names: list[str] = []

    def watch(name: str, change: Change, given: tuple[Any, ...]) -> None:
        names.append(name)
        change(*given)

    with watched(watch):
        work()
    return names


def full(name: str, change: Change, given: tuple[Any, ...]) -> None:
    """Refuse a change for want of room."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(given[0]))


def full_halfway(name: str, change: Change, given: tuple[Any, ...]) -> None:
    """Refuse a change for want of room, after half of a file's content."""
    if name in CONTENT:
        halve(name, change, given)
    full(name, change, given)


def die(name: str, change: Change, given: tuple[Any, ...]) -> None:
    os._exit(KILLED)


def die_halfway(name: str, change: Change, given: tuple[Any, ...]) -> None:
    halve(name, change, given)
    os._exit(KILLED)


def halve(name: str, change: Change, given: tuple[Any, ...]) -> None:
    """Make a change; of a file's content, or of removing a folder, one half."""
    path: Path = given[0]
    if name == "remove" and path.is_dir():
        for file in sorted(path.iterdir())[:2]:
            file.unlink()
        return
    change(*given)
    if name in CONTENT:
        os.truncate(path, path.stat().st_size // 2)


class PowerCut:
    """A disk that forgets, when the power is cut, what it was not told to `sync`.

    `names_too`: a file's name is forgotten as well as its content.
    """

    def __init__(self, turn: int, names_too: bool):
        self.turn, self.names_too = turn, names_too
        self.loose_content: set[Path] = set()
        self.loose_files: set[Path] = set()
        self.loose_renames: list[tuple[Path, Path, bytes | None]] = []  # and what was replaced

    def __call__(self, name: str, change: Change, given: tuple[Any, ...]) -> None:
        if self.turn == 0:
            self.cut()
        self.turn -= 1
        if name == "rename":
            self.rename(*given)
        change(*given)
        path = given[0]
        if name in CONTENT:
            self.loose_content.add(path)
        if name in (*CONTENT, "make_folder"):
            self.loose_files.add(path)
        if name == "sync":
            self.loose_content.discard(path)
        if name == "sync_folder":
            self.loose_files = {file for file in self.loose_files if file.parent != path}
            self.loose_renames = [each for each in self.loose_renames if each[1].parent != path]

    def rename(self, source: Path, target: Path) -> None:
        def moved(path: Path) -> Path:
            return target / path.relative_to(source) if path.is_relative_to(source) else path

        self.loose_content = {moved(path) for path in self.loose_content}
        self.loose_files = {moved(path) for path in self.loose_files}
        replaced = target.read_bytes() if target.is_file() else None
        self.loose_renames.append((source, target, replaced))

    def cut(self) -> None:
        for path in self.loose_content:
            with suppress(FileNotFoundError):
                os.truncate(path, path.stat().st_size // 2)
        if self.names_too:
            for path in self.loose_files:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            for source, target, replaced in reversed(self.loose_renames):
                with suppress(FileNotFoundError):
                    os.replace(target, source)
                if replaced is not None:
                    target.write_bytes(replaced)
        os._exit(KILLED)


def in_fork(work: Callable[[], object]) -> int:
    """Do the work in a copy of this process and return its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the copy only touches files
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def tensors_of(step: int, size: int = 7) -> dict[str, dict[str, Tensor]]:
    """Make tensors that tell the step they belong to."""
    weight = torch.arange(size * size, dtype=torch.float32).view(size, size) + step
    moments = {"weight.mean": weight / 2, "weight.square": weight**2, "step": torch.tensor(step)}
    return {"model": {"weight": weight}, "optimizer": moments, "random": {"cpu": weight.byte()}}


def save(folder: Path, step: int, size: int = 7) -> Path:
    state = {"step": step, "seconds": 0.1 * step}
    return checkpoint.save(folder, step, tensors_of(step, size), state)


def assert_whole(path: Path, step: int, size: int = 7) -> None:
    """Assert that a checkpoint holds what `save` gives it."""
    loaded = checkpoint.load(path)
    assert (loaded.step, loaded.state) == (step, {"step": step, "seconds": 0.1 * step})
    expected = tensors_of(step, size)
    assert loaded.tensors.keys() == expected.keys()
    for group, tensors in expected.items():
        assert loaded.tensors[group].keys() == tensors.keys()
        assert all(torch.equal(loaded.tensors[group][name], tensors[name]) for name in tensors)


def forge(folder: Path, step: int, contents: dict[str, bytes]) -> Path:
    """Write a checkpoint whose manifest is right, whatever its files hold; nothing is flushed."""
    path = folder / f"step-{step:08d}"
    path.mkdir(parents=True)
    listed = {}
    for name, data in {"state.json": b"{}", **contents}.items():
        (path / name).write_bytes(data)
        listed[name] = {"size": len(data), "sha256": sha256(data).hexdigest()}
    manifest = {"format": 1, "step": step, "files": listed}
    (path / "MANIFEST.json").write_text(json.dumps(manifest, indent=1, separators=(",", ": ")))
    return path


def flip_bit(path: Path, bit: int) -> None:
    """Flip one bit of a file in place; a second call restores it."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
