"""A run's folder: everything known of a run, readable without the code that wrote it.

    runs/NAME/config.yaml environment.json status.json metrics.jsonl samples.txt
              tokenizer/ checkpoints/

Paths inside are relative to the folder, which can be moved to another machine and used there.
"""

import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout

from gptlab import files
from gptlab.plain_yaml import read_yaml_file

State = Literal["running", "done", "stopped", "failed"]

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
STATUS = "status.json"
MAX_NAME = 64
MAX_JSON_BYTES = 1_000_000
PATIENCE = 0.3  # seconds; `is_locked` holds the lock for an instant
RESERVED_BY_WINDOWS = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


class Taken(ValueError):
    """Somebody else has a run: its folder is there already, or another process works in it."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. What the disk refuses to write is a WriteError naming the path."""

    path: Path

    @classmethod
    def create(
        cls,
        root: Path,
        name: str,
        config_yaml: str,
        fill: Callable[["RunFolder"], None] = lambda run: None,
    ) -> "RunFolder":
        """Make the folder `root/name` with its config, and with what `fill` writes, at once.

        Raises Taken if it exists.
        """
        check_free(root, name)
        path = root / name
        temporary = root / files.temporary_name(name)
        try:
            root.mkdir(parents=True, exist_ok=True)
            files.make_folder(temporary)
            files.replace(temporary / CONFIG, config_yaml.encode())
            fill(cls(temporary))
            files.rename(temporary, path)
            files.sync_folder(root)
        except BaseException as error:
            with suppress(OSError):
                files.remove(temporary)
            if not isinstance(error, OSError):
                raise
            check_free(root, name)  # another process may have been faster
            raise files.WriteError(f"{path} could not be made: {files.reason(error)}") from error
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Open an existing run's folder. Raises ValueError for any other folder."""
        if not (Path(path) / CONFIG).is_file():
            raise ValueError(f"{path} is not a run's folder: it has no {CONFIG}")
        return cls(Path(path))

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from writing here. Raises Taken if one of them does already.

        The lock is the operating system's: it ends with the process, however that dies.
        """
        self.open(self.path)  # a lock would make the folder anew if it is gone
        lock = FileLock(self.path / ".lock", timeout=PATIENCE)
        try:
            lock.acquire()
        except Timeout:
            raise Taken(f"{self.path} is in use by another process") from None
        except OSError as error:
            raise files.WriteError(
                f"{self.path} could not be locked: {files.reason(error)}"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def is_locked(self) -> bool:
        """Tell whether a process writes here. Where nobody may write, nobody does."""
        lock = self.path / ".lock"
        if not lock.exists():
            return False
        try:
            with FileLock(lock, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    def config_tree(self) -> dict[str, Any]:
        """Read the config as plain data."""
        tree = read_yaml_file(self.path / CONFIG)
        if not isinstance(tree, dict):
            raise ValueError(f"{self.path / CONFIG} holds no settings")
        return tree

    def write_config(self, config_yaml: str) -> None:
        files.replace(self.path / CONFIG, config_yaml.encode())

    def environment(self) -> dict[str, Any]:
        """Read what was known of the machine and the data; empty if nothing was written."""
        return self._read_json(ENVIRONMENT) or {}

    def check_tokenizer(self, sha256: str) -> None:
        """Raise ValueError if this is not the tokenizer with which the run was started."""
        was = self.environment().get("tokenizer_sha256")
        if was not in (None, sha256):
            raise ValueError(
                f"{self.tokenizer} is not the tokenizer of this run: its sha256 is {sha256[:12]}, "
                f"{ENVIRONMENT} says {str(was)[:12]}; put the tokenizer's files back as they were"
            )

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        self._write_json(ENVIRONMENT, environment)

    def status(self) -> dict[str, Any]:
        """Read the state last written, its step and reason; a run begins as running at step 0."""
        status = self._read_json(STATUS) or {"state": "running", "step": 0, "reason": ""}
        if status.get("state") not in get_args(State):
            raise ValueError(f"{self.path / STATUS} is damaged: its state is {status.get('state')}")
        return status

    def write_status(self, state: State, step: int, reason: str = "") -> None:
        self._write_json(STATUS, {"state": state, "step": step, "reason": reason})

    def state(self) -> str:
        """Tell the state; `interrupted` if it says running but no process holds the lock."""
        state = self.status()["state"]
        return "interrupted" if state == "running" and not self.is_locked() else state

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl; numbers that are not finite become null."""
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in metrics.items()
        }
        self._append("metrics.jsonl", json.dumps(finite, allow_nan=False) + "\n")

    def metrics(self) -> tuple[list[dict[str, Any]], int]:
        """Read metrics.jsonl: its good lines, and how many bad ones there are."""
        lines = self._metrics_lines()
        good = [metrics for line in lines if (metrics := _parse_metrics(line)) is not None]
        return good, len(lines) - len(good)

    def evaluations(self) -> list[dict[str, Any]]:
        """Read the lines of metrics that hold a validation loss."""
        return [line for line in self.metrics()[0] if line.get("val_loss") is not None]

    def best_step(self, steps: Collection[int]) -> int | None:
        """Tell which of these steps has the lowest validation loss, None if none has one."""
        losses = {line["step"]: line["val_loss"] for line in self.evaluations()}
        return min(losses.keys() & set(steps), key=losses.__getitem__, default=None)

    def truncate_metrics(self, step: int) -> int:
        """Drop the lines after `step`, and the bad ones; returns how many were bad."""
        lines = self._metrics_lines()
        good = [(line, x) for line in lines if (x := _parse_metrics(line)) is not None]
        kept = [line + b"\n" for line, metrics in good if metrics["step"] <= step]
        if len(kept) < len(lines):
            files.replace(self.path / "metrics.jsonl", b"".join(kept))
        return len(lines) - len(good)

    def append_sample(self, text: str) -> None:
        """Append what the model wrote to samples.txt."""
        self._append("samples.txt", text)

    def _metrics_lines(self) -> list[bytes]:
        try:
            data = (self.path / "metrics.jsonl").read_bytes()
        except FileNotFoundError:
            return []
        return [line for line in data.split(b"\n") if line]

    def _append(self, name: str, text: str) -> None:
        try:
            files.append(self.path / name, text.encode())
        except OSError as error:
            raise files.WriteError(
                f"{self.path / name} could not be written: {files.reason(error)}"
            ) from error

    def _write_json(self, name: str, tree: Mapping[str, Any]) -> None:
        text = json.dumps(dict(tree), indent=1, allow_nan=False, ensure_ascii=False)
        files.replace(self.path / name, text.encode() + b"\n")

    def _read_json(self, name: str) -> dict[str, Any] | None:
        """Read an object, or None if there is no such file. Raises ValueError if it is damaged."""
        try:
            tree = json.loads(files.read(self.path / name, MAX_JSON_BYTES))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.path / name} is damaged: {error}") from None
        if not isinstance(tree, dict):
            raise ValueError(f"{self.path / name} is damaged: it holds no object")
        return tree


def check_free(root: Path, name: str) -> None:
    """Raise ValueError if a run cannot have this name, Taken if one of `root` has it already."""
    check_name(name)
    if os.path.lexists(root / name):
        raise Taken(
            f"{root / name} exists already: go on with it by `gptlab resume {root / name}`, "
            "or choose another name (name=...)"
        )


def free_name(root: Path, name: str) -> str:
    """Find the first of name, name-2, name-3, ... that no run of `root` has."""
    check_name(name)
    candidate, number = name, 1
    while os.path.lexists(root / candidate):
        number += 1
        ending = f"-{number}"
        candidate = name[: MAX_NAME - len(ending)] + ending
    return candidate


def check_name(name: str) -> None:
    """Refuse what could lead out of the folder of runs, or is no file name on some system."""
    if not re.fullmatch(f"[A-Za-z0-9._-]{{1,{MAX_NAME}}}", name):
        raise ValueError(f"name={name!r}: use 1 to {MAX_NAME} of the characters A-Z a-z 0-9 . _ -")
    if name.endswith(".") or RESERVED_BY_WINDOWS.fullmatch(name):
        raise ValueError(f"name={name!r} is not a file name on every system; choose another")


def _parse_metrics(line: bytes) -> dict[str, Any] | None:
    """Parse a line of metrics, None if it is not an object with a step."""
    try:
        metrics = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return metrics if isinstance(metrics, dict) and type(metrics.get("step")) is int else None
