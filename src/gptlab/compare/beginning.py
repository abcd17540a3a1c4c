"""A run is begun once, whoever wants it and whatever each of them calls it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from gptlab import files
from gptlab.runs.folder import PATIENCE, Taken


@contextmanager
def alone(root: Path, identity: str) -> Iterator[None]:
    """Keep others from beginning this run. Raises Taken if somebody does already.

    What the disk refuses is a WriteError. The lock is the operating system's: it ends with the
    process, however that dies.
    """
    file = root / f".{identity}.lock"
    lock = FileLock(file, timeout=PATIENCE)
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise Taken(f"{identity} in {root} is begun by another process") from None
    except OSError as error:
        raise files.WriteError(f"{file} could not be locked: {files.reason(error)}") from error
    try:
        yield
        with suppress(OSError):  # on Windows, where the lock removes it
            files.remove(file)  # whoever waits for it finds a run that has begun
    finally:
        lock.release()
