"""Tiny Shakespeare: 1,115,394 characters, 65 distinct, from karpathy/char-rnn.

Fetched once, kept in the user's cache folder, and checked by its sha256 at every use.
"""

import os
import sys
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from gptlab import files
from gptlab.data.sources._texts import Texts

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
N_BYTES = 1_115_394
TIMEOUT = 30  # seconds


class Shakespeare(Texts):
    """No settings of its own. The environment variable GPTLAB_CACHE names another cache folder."""

    def documents(self) -> list[str]:
        file = cache_folder() / "tinyshakespeare.txt"
        content = _read_if_possible(file)
        if not _is_genuine(content):
            content = self._fetch()
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                files.replace(file, content)
            except OSError as error:
                raise ValueError(
                    f"{self.name}: cannot write {file} ({files.reason(error)}); "
                    "set GPTLAB_CACHE to a folder that can be written"
                ) from None
        return [content.decode("utf-8")]

    def _fetch(self) -> bytes:
        try:
            with urlopen(URL, timeout=TIMEOUT) as response:
                content = response.read(N_BYTES + 1)
            reason = None if _is_genuine(content) else f"{len(content):,} bytes with another sha256"
        except (OSError, HTTPException) as error:
            content, reason = b"", " ".join(str(error).split()) or type(error).__name__
        if reason is not None:
            raise ValueError(
                f"{self.name}: cannot fetch {URL} ({reason}); "
                "fetch it where there is a network, then give it as data.path=FILE"
            )
        return content


def cache_folder() -> Path:
    """The folder for what can be fetched again."""
    if given := os.environ.get("GPTLAB_CACHE"):
        return Path(given)
    usual = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    return Path(os.environ.get(usual) or Path.home() / ".cache") / "gptlab"


def _is_genuine(content: bytes) -> bool:
    return sha256(content).hexdigest() == SHA256


def _read_if_possible(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
