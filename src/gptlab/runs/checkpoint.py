"""Checkpoints: folders `step-00000040` that are whole and right, or recognised as damaged.

A checkpoint holds a safetensors file per group of tensors (`model`, `optimizer`, ...), the rest of
the state as `state.json`, and `MANIFEST.json` (see `manifest.py`). It is written under a temporary
name, every file is flushed to the disk, the manifest last, and the folder then renamed.
Nothing read here can run code: there is no pickle, sizes are bounded, links are not followed.
"""

import json
import os
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gptlab import files
from gptlab.runs.manifest import (
    FORMAT,
    MANIFEST,
    MAX_JSON_BYTES,
    STATE,
    TENSORS,
    Content,
    Manifest,
    damaged,
    folder_name,
    is_valid,
    verify,
)

MAX_HEADER_BYTES = 16_000_000  # names and shapes of some 100,000 tensors


@dataclass(frozen=True)
class Checkpoint:
    """What `load` found: tensors by group and name, on the CPU, and the rest of the state."""

    path: Path
    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
) -> Path:
    """Write the checkpoint of a step into a run's `checkpoints` folder; `state` is plain JSON.

    Raises ValueError if the step has a valid checkpoint already (a damaged one is replaced), and
    WriteError if the disk refuses: then nothing is left half done and the others are intact.
    """
    target = folder / folder_name(step)
    if is_valid(target):
        raise ValueError(f"{target} exists already and is whole; a checkpoint is never overwritten")
    temporary = folder / files.temporary_name(target.name)
    try:
        if not folder.is_dir():
            files.make_folder(folder)
            files.sync_folder(folder.parent)
        _write(temporary, step, tensors, state)
        _discard(target)
        files.rename(temporary, target)
        files.sync_folder(folder)
    except BaseException as error:
        with suppress(OSError):
            files.remove(temporary)
        if isinstance(error, OSError):
            raise files.WriteError(
                f"checkpoint {target} could not be written: {files.reason(error)}; "
                "the checkpoints before it are intact"
            ) from error
        raise
    return target


def load(path: Path, only: Collection[str] | None = None) -> Checkpoint:
    """Read a checkpoint: all groups of tensors, or `only` those named, and the state.

    What is read is compared with its sha256 first; of the other files, the size.
    Raises ValueError saying what is missing, damaged or too large.
    """
    manifest = verify(path, only)
    try:
        state = json.loads(files.read(path / STATE, MAX_JSON_BYTES))
        if not isinstance(state, dict):
            raise ValueError(f"{STATE} is not an object")
        tensors = {name: _read_tensors(path / f"{name}{TENSORS}") for name in manifest.groups(only)}
    except (ValueError, OSError, RecursionError) as error:
        raise damaged(path, error) from None
    return Checkpoint(path, manifest.step, tensors, state)


def newest(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """Find the newest whole checkpoint; `warn` hears of each damaged one that is passed over."""
    for _, path in reversed(every(folder)):
        try:
            verify(path)
        except ValueError as error:
            warn(f"{error}; it is passed over")
        else:
            return path
    return None


def every(folder: Path) -> list[tuple[int, Path]]:
    """List the checkpoints of a folder with their steps, oldest first, damaged ones included."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    matches = [re.fullmatch("step-([0-9]{8}|[1-9][0-9]{8,})", name) for name in names]
    return sorted((int(match[1]), folder / match[0]) for match in matches if match)


def prune(folder: Path, keep_last: int, best_step: int | None) -> None:
    """Remove all but the last `keep_last` whole checkpoints and the best one, and what saves left.

    Nothing is removed while no checkpoint is whole. What cannot be removed now (Windows: a file
    in use) is left for the next time. Call it only while holding the run's lock.
    """
    assert keep_last >= 1
    found = every(folder)
    if len(found) > keep_last:
        whole = (step for step, path in reversed(found) if is_valid(path))
        kept = set(islice(whole, keep_last))
        for step, path in found:
            if kept and step not in kept and step != best_step:
                with suppress(OSError):
                    _discard(path)
    for path in folder.glob(f"{files.TEMPORARY}*"):
        with suppress(OSError):
            files.remove(path)


def _write(
    path: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
) -> None:
    state_json = json.dumps(dict(state)).encode()
    assert len(state_json) <= MAX_JSON_BYTES
    files.make_folder(path)
    files.write(path / STATE, state_json)
    for name, group in tensors.items():
        files.write_tensors(path / f"{name}{TENSORS}", group)
    written = sorted(path.iterdir())
    for file in written:
        files.sync(file)
    contents = {file.name: Content.of(file) for file in written}
    files.write(path / MANIFEST, Manifest(format=FORMAT, step=step, files=contents).write())
    files.sync(path / MANIFEST)
    files.sync_folder(path)


def _discard(path: Path) -> None:
    """Remove a checkpoint, if there is one: renamed first, so that none is ever half there."""
    if os.path.lexists(path):
        aside = path.with_name(files.temporary_name(path.name))
        files.rename(path, aside)
        with suppress(OSError):
            files.remove(aside)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file into memory of our own: the file may then change or go away."""
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise ValueError(
            f"{path.name} has a header of {header_bytes:,} bytes, more than {MAX_HEADER_BYTES:,}"
        )
    try:
        return {name: x.clone() for name, x in load_file(path).items()}
    except SafetensorError as error:
        raise ValueError(f"{path.name}: {error}") from None
