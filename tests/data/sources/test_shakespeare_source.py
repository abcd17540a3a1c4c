"""Tiny Shakespeare, from a network that is only played here."""

import io
from collections.abc import Callable
from hashlib import sha256
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import URLError

import pytest

from gptlab.data.sources import shakespeare
from gptlab.data.sources.shakespeare import Shakespeare, cache_folder

CONTENT = b"First Citizen:\nBefore we proceed any further, hear me speak.\n"


class Network:
    """Answers with `content`, or fails with `error`; remembers what was asked."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.error: Exception | None = None
        self.asked: list[tuple[str, float]] = []

    def __call__(self, url: str, timeout: float) -> io.BytesIO:
        self.asked.append((url, timeout))
        if self.error:
            raise self.error
        return io.BytesIO(self.content)


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(shakespeare, "urlopen", network)
    monkeypatch.setattr(shakespeare, "SHA256", sha256(CONTENT).hexdigest())
    monkeypatch.setattr(shakespeare, "N_BYTES", len(CONTENT))
    monkeypatch.setenv("GPTLAB_CACHE", str(tmp_path / "cache"))
    return network


def refusal() -> str:
    with pytest.raises(ValueError, match=r"^data=shakespeare: ") as caught:
        Shakespeare().documents()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_fetched_once_then_kept(network: Network, tmp_path: Path):
    assert Shakespeare().documents() == [CONTENT.decode()]
    assert Shakespeare().documents() == [CONTENT.decode()]
    assert network.asked == [(shakespeare.URL, shakespeare.TIMEOUT)]
    assert shakespeare.URL.startswith("https://")
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["tinyshakespeare.txt"]


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: b"G" + content[1:], lambda _: b""]
)
def test_a_damaged_copy_is_fetched_again(
    network: Network, tmp_path: Path, damage: Callable[[bytes], bytes]
):
    Shakespeare().documents()
    copy = tmp_path / "cache" / "tinyshakespeare.txt"
    copy.write_bytes(damage(CONTENT))
    assert Shakespeare().documents() == [CONTENT.decode()]
    assert len(network.asked) == 2
    assert copy.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (URLError(OSError(-2, "Name or service not known")), "Name or service not known"),
        (TimeoutError("timed out"), "timed out"),
        (ConnectionResetError(), "ConnectionResetError"),
        (IncompleteRead(b"", 5), "IncompleteRead"),
    ],
)
def test_without_a_network_it_says_what_to_do(network: Network, error: Exception, reason: str):
    network.error = error
    message = refusal()
    assert reason in message
    assert shakespeare.URL in message
    assert message.endswith("fetch it where there is a network, then give it as data.path=FILE")


@pytest.mark.parametrize("content", [b"", b"<html>Log in first</html>", CONTENT + b"more"])
def test_another_text_is_refused_and_not_kept(network: Network, content: bytes, tmp_path: Path):
    network.content = content
    assert "another sha256" in refusal()
    assert not (tmp_path / "cache").exists()


def test_no_more_is_read_than_the_text_is_long(network: Network, monkeypatch: pytest.MonkeyPatch):
    network.content = CONTENT * 1000
    assert f"({len(CONTENT) + 1} bytes with another sha256)" in refusal()


def test_a_cache_that_cannot_be_written(network: Network, tmp_path: Path):
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    message = refusal()
    assert str(tmp_path / "cache") in message
    assert message.endswith("set GPTLAB_CACHE to a folder that can be written")


def test_an_interrupted_write_leaves_nothing(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gptlab.files.rename", fail)
    assert "No space left on device" in refusal()
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"GPTLAB_CACHE": "own", "XDG_CACHE_HOME": "xdg"}, Path("own")),
        ("linux", {"XDG_CACHE_HOME": "xdg", "LOCALAPPDATA": "local"}, Path("xdg/gptlab")),
        ("darwin", {}, Path.home() / ".cache/gptlab"),
        ("win32", {"XDG_CACHE_HOME": "xdg", "LOCALAPPDATA": "local"}, Path("local/gptlab")),
    ],
)
def test_cache_folder(
    platform: str, variables: dict[str, str], expected: Path, monkeypatch: pytest.MonkeyPatch
):
    home = Path.home()
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.setattr(shakespeare.sys, "platform", platform)
    for name in ("GPTLAB_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == expected
