"""Changing the disk so that a crash, a full disk or a power cut never leaves something half done.

Every change that a run makes on disk is one of `make_folder write write_tensors sync sync_folder
rename remove append`: tests kill the process, or fail the call, at each one of them.
"""

import json
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import file_digest
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

TEMPORARY = ".tmp-"  # what a name begins with while its content is not to be relied on
RENAME_DELAYS = (0.05, 0.1, 0.2, 0.4, 0.8)  # seconds; Windows' scanners hold new files for a moment


class WriteError(OSError):
    """The disk refused a change: the message names the path and the reason."""


def temporary_name(name: str) -> str:
    """Make up a name that nobody else uses, for what will be called `name`."""
    return f"{TEMPORARY}{name}-{token_hex(4)}"


def reason(error: OSError) -> str:
    """Phrase an error without its number and path."""
    return error.strerror or str(error)


def make_folder(path: Path) -> None:
    path.mkdir()


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def write_tensors(
    path: Path, tensors: "Mapping[str, Tensor]", metadata: dict[str, str] | None = None
) -> None:
    """Write tensors as one safetensors file, without a second copy of them in memory."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    try:
        save_file({name: x.detach().contiguous() for name, x in tensors.items()}, path, metadata)
    except SafetensorError as error:
        raise OSError(str(error).rpartition("I/O error: ")[2]) from None
    path.chmod(mode)  # save_file makes a file that only its owner can read


def sync(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk; Windows has no such call."""
    if sys.platform != "win32":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Give `source` the name `target`: a file that had it is replaced, a folder that had it stays.

    (POSIX replaces a folder without content.)
    """
    for delay in RENAME_DELAYS if sys.platform == "win32" else ():
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(delay)
    os.replace(source, target)


def remove(path: Path) -> None:
    """Remove a file, a link (never what it points to) or a folder with all its content."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def append(path: Path, data: bytes) -> None:
    """Append to a file, on a new line if its last line was cut short."""
    with path.open("a+b") as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                data = b"\n" + data
        file.write(data)


def replace(path: Path, data: bytes) -> None:
    """Write a whole file at once: whoever reads it sees the old content or the new."""
    temporary = path.with_name(temporary_name(path.name))
    try:
        write(temporary, data)
        sync(temporary)
        rename(temporary, path)
        sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            remove(temporary)
        if isinstance(error, OSError):
            raise WriteError(f"{path} could not be written: {reason(error)}") from error
        raise


def size(path: Path) -> int:
    """Tell a file's size in bytes. Raises ValueError for anything but a plain file."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path.name} is not a plain file")
    return status.st_size


def read(path: Path, limit: int) -> bytes:
    """Read a plain file of at most `limit` bytes. Raises ValueError for a larger one."""
    if size(path) > limit:
        raise ValueError(f"{path.name} has {size(path):,} bytes, more than {limit:,}")
    return path.read_bytes()


def read_parsed(file: Path, limit: int, parse: Callable[[bytes], T], problem: str = "") -> T:
    """Make something of a file from elsewhere, which may be a link.

    Raises ValueError, in one line that names the file, if that cannot be done.
    """
    try:
        if file.stat().st_size > limit:
            raise ValueError(f"larger than {limit:,} bytes")
        return parse(file.read_bytes())
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({reason(error)})") from None
    except RecursionError:
        raise ValueError(f"{file}: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{file}: {problem}{'; '.join(str(error).splitlines())}") from None


def read_object(file: Path, limit: int) -> dict[str, Any] | None:
    """Read a JSON object from elsewhere, None if there is no such file; see `read_parsed`."""
    return read_parsed(file, limit, _object, "damaged: ") if file.exists() else None


def _object(content: bytes) -> dict[str, Any]:
    tree = json.loads(content.decode("utf-8"))
    if not isinstance(tree, dict):
        raise ValueError("it holds no object")
    return tree


def check_place(file: Path) -> None:
    """Raise ValueError if a file cannot be written there, in a folder that is made if need be."""
    if file.is_dir():
        raise ValueError(f"{file} is a folder: name a file in it")
    folder = next(path for path in file.absolute().parents if path.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"{file} cannot be written: nothing can be made in {folder}")


def digest(path: Path) -> str:
    """Compute the sha256 of a file's content."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
