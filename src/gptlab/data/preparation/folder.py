"""The folder of a preparation that is not finished: whose it is, and what is in it already.

OUT/.work/plan.json  the work: another one's is refused
OUT/.work/NNNNNNNN.* parts
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gptlab import files
from gptlab.data.prepared import MANIFEST, PLAN, WORK, is_prepared

LOCK = "lock"


class WorkFolder:
    """`plan`: all that determines the parts, by the names under which a user knows it."""

    def __init__(self, out: Path, plan: Mapping[str, Any]):
        self.out, self.plan = out, json.loads(json.dumps(plan))
        self.path = out / WORK

    def check(self) -> bool:
        """Tell whether the preparation is finished already, but for tidying up.

        Raises ValueError for a folder that holds anything but this very preparation's work.
        """
        if not os.path.lexists(self.out):
            return False
        if not self.out.is_dir():
            raise ValueError(f"--out={self.out} is not a folder")
        there = os.listdir(self.out)
        if self.path.is_symlink():
            raise ValueError(f"{self.path} is a symbolic link; choose another --out, or remove it")
        if (self.path / PLAN).is_file():
            self._compare()
            return MANIFEST in there
        if is_prepared(self.out):
            raise ValueError(
                f"--out={self.out} holds a prepared set already; choose another, or remove it"
            )
        if set(there) - {WORK} or self._foreign():
            raise ValueError(
                f"--out={self.out} is not empty, and what it holds is not the beginning of this "
                "preparation; choose another"
            )
        return False

    @contextmanager
    def open(self) -> Iterator[None]:
        """Make the folder if it is not there, and keep other processes out."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / LOCK, timeout=0.3)
            with lock:
                if not (self.path / PLAN).exists():
                    files.replace(self.path / PLAN, json.dumps(self.plan).encode())
                self._compare()
                for left in self.path.glob(f"{files.TEMPORARY}*"):
                    left.unlink(missing_ok=True)
                yield
        except Timeout:
            raise ValueError(f"--out={self.out} is in use by another process") from None
        except files.WriteError:
            raise
        except OSError as error:
            if error.filename is not None and not str(error.filename).startswith(str(self.out)):
                raise
            raise files.WriteError(
                f"{self.out} could not be written: {files.reason(error)}"
            ) from error

    def remove(self) -> None:
        """Remove all but the prepared set, last of all what tells whose work it was."""
        for path in self.path.iterdir():
            if path.name != PLAN:
                files.remove(path)
        (self.path / PLAN).unlink()
        self.path.rmdir()

    def _foreign(self) -> bool:
        """Tell whether `.work` holds anything but what `open` leaves there before the plan."""
        if not os.path.lexists(self.path):
            return False
        return not self.path.is_dir() or any(
            name != LOCK and not name.startswith(files.TEMPORARY + PLAN)
            for name in os.listdir(self.path)
        )

    def _compare(self) -> None:
        try:
            begun = json.loads((self.path / PLAN).read_bytes())
        except ValueError:
            begun = None
        begun = begun if isinstance(begun, dict) else {}
        for name, value in self.plan.items():
            if begun.get(name) != value:
                raise ValueError(
                    f"--out={self.out} holds the beginning of another preparation: {name} was "
                    f"{begun.get(name)!r:.80}, is {value!r:.80}; choose another folder, or "
                    "remove this one"
                )
