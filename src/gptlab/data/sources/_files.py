"""Reading text files and folders of them."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path

LOOK = 65_536  # bytes that are looked at before a whole file is read


def read_text(file: Path) -> str:
    """Read UTF-8 as it is, but for a byte order mark. Raises ValueError for anything else."""
    with file.open("rb") as opened:
        content = opened.read(LOOK)
        if b"\0" not in content:
            content += opened.read()
    zero = content.find(b"\0")
    if zero >= 0:
        raise ValueError(f"not text: byte {zero:,} is NUL")
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"not UTF-8 text: byte {error.start:,} is 0x{content[error.start]:02x}"
        ) from None


def files_below(folder: Path, leave_out: Collection[str] = ()) -> list[Path]:
    """Find the files of a folder and its folders, sorted by their path below it.

    Whatever is hidden (`.name`), a symbolic link, or in a folder to leave out is not looked at.
    """
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_fail):
        folders[:] = [name for name in folders if name not in leave_out and name[0] != "."]
        files = [Path(parent, name) for name in names if name[0] != "."]
        found += [file for file in files if file.is_file() and not file.is_symlink()]
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def read_texts(files: Iterable[Path]) -> list[str]:
    """Read those of the files that are text and not empty."""
    texts: list[str] = []
    for file in files:
        try:
            texts.append(read_text(file))
        except ValueError:  # not text
            continue
    return [text for text in texts if text]


def _fail(error: OSError) -> None:
    raise error
