import os
from pathlib import Path

import pytest

from gptlab.data.sources import _files
from gptlab.data.sources.text import Text


def write(file: Path, content: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def refusal(path: Path) -> str:
    with pytest.raises(ValueError, match=r"^data\.path=") as caught:
        Text(path=str(path)).documents()
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"data.path={path}: ")
    return message.removeprefix(f"data.path={path}: ")


def test_a_file_is_read_as_it_is(tmp_path: Path):
    content = "\ufeffnaïve\r\n東京\n\rend \ufeff".encode()
    file = write(tmp_path / "a file.bin", content)
    assert Text(path=str(file)).documents() == ["naïve\r\n東京\n\rend \ufeff"]


def test_home_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "a.txt", b"at home")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert Text(path="~/a.txt").documents() == ["at home"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"ab\0c", "not text: byte 2 is NUL"),
        (b"x" * 70_000 + b"\0", "not text: byte 70,000 is NUL"),
        (b"abc\xff\xfe", "not UTF-8 text: byte 3 is 0xff"),
        ("é" * 50_000).encode() and (("é" * 50_000).encode()[:-1], "not UTF-8 text: byte 99,998"),
        ("naïve".encode("latin1"), "not UTF-8 text: byte 2 is 0xef"),
        ("text".encode("utf-16"), "not text: byte 3 is NUL"),
    ],
)
def test_a_file_that_is_not_text_is_refused(content: bytes, message: str, tmp_path: Path):
    assert refusal(write(tmp_path / "a.txt", content)).startswith(message)


def test_missing_things_are_refused(tmp_path: Path):
    assert refusal(tmp_path / "nothing.txt") == "no such file or folder"
    assert refusal(tmp_path / "a\0b") == "no such file or folder"
    assert refusal(write(tmp_path / "a.txt", b"x") / "below") == "no such file or folder"
    with pytest.raises(ValueError, match=r"^data.path=~nobody-here/x: no such file or folder$"):
        Text(path="~nobody-here/x").documents()


def test_a_folder_without_text_is_refused(tmp_path: Path):
    assert refusal(tmp_path) == "no UTF-8 text file in this folder"
    write(tmp_path / "a.bin", b"\0")
    write(tmp_path / "empty.txt", b"")
    write(tmp_path / ".hidden.txt", b"hidden")
    assert refusal(tmp_path) == "no UTF-8 text file in this folder"


def test_a_folders_text_files_in_the_order_of_their_paths(tmp_path: Path):
    for name in ["b.txt", "a/z.md", "a/b/c", "a.txt", "B.txt", "ä.txt", "a-b/x.py"]:
        write(tmp_path / name, name.encode())
    write(tmp_path / "a/binary.txt", b"\0\1")
    write(tmp_path / "a/latin1.txt", b"\xe9t\xe9")
    write(tmp_path / "a/empty.txt", b"")
    write(tmp_path / ".git/config", b"hidden")
    write(tmp_path / "a/.hidden", b"hidden")
    expected = ["B.txt", "a-b/x.py", "a.txt", "a/b/c", "a/z.md", "b.txt", "ä.txt"]
    assert Text(path=str(tmp_path)).documents() == expected


def test_order_is_not_the_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in "cadb":
        write(tmp_path / name, name.encode())
    walk = os.walk

    def backwards(folder: Path, **options: object):
        for parent, folders, names in walk(folder):
            yield parent, folders, sorted(names, reverse=True)

    monkeypatch.setattr(_files.os, "walk", backwards)
    assert Text(path=str(tmp_path)).documents() == list("abcd")


def test_a_hidden_folder_can_be_named(tmp_path: Path):
    write(tmp_path / ".notes/a.txt", b"a")
    assert Text(path=str(tmp_path / ".notes")).documents() == ["a"]


def test_links_inside_a_folder_are_not_followed(tmp_path: Path):
    outside = write(tmp_path / "outside/secret.txt", b"secret")
    folder = write(tmp_path / "inside/a.txt", b"a").parent
    try:
        (folder / "link.txt").symlink_to(outside)
        (folder / "linked").symlink_to(outside.parent, target_is_directory=True)
        (folder / "loop").symlink_to(folder, target_is_directory=True)
        (tmp_path / "start").symlink_to(folder, target_is_directory=True)
    except OSError:
        pytest.skip("this system does not let us make symbolic links")
    assert Text(path=str(folder)).documents() == ["a"]
    assert Text(path=str(tmp_path / "start")).documents() == ["a"]
    assert Text(path=str(folder / "link.txt")).documents() == ["secret"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_what_is_not_a_file_is_not_read(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == "neither a file nor a folder"
    assert refusal(tmp_path) == "no UTF-8 text file in this folder"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = write(tmp_path / "a.txt", b"a")

    def deny(path: Path, mode: str):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", deny)
    assert refusal(file) == f"cannot read {file} (Permission denied)"
    assert refusal(tmp_path) == f"cannot read {file} (Permission denied)"


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def deny(path: str):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(_files.os, "scandir", deny)
    assert refusal(tmp_path) == f"cannot read {tmp_path} (Permission denied)"
