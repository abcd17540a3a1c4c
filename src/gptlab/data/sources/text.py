"""The user's own text: a file, or every text file of a folder.

What a folder's text files are is decided by their content, not by their names: every file that is
UTF-8 without NUL bytes and not empty is a document. Hidden files and folders and symbolic links
inside the folder are left out.
"""

import os
from pathlib import Path

from gptlab.data.sources._files import files_below, read_text, read_texts
from gptlab.data.sources._texts import Texts


class Text(Texts):
    """`path`: required; `~` is the home folder."""

    has_path = True

    def documents(self) -> list[str]:
        assert self.path is not None
        try:
            return self._read(Path(os.path.expanduser(self.path)))
        except OSError as error:
            problem = f"cannot read {error.filename} ({error.strerror})"
            raise ValueError(f"{self.name}: {problem}") from None
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None

    def _read(self, path: Path) -> list[str]:
        if path.is_dir():
            texts = read_texts(files_below(path))
            if not texts:
                raise ValueError("no UTF-8 text file in this folder")
            return texts
        if not path.exists():
            raise ValueError("no such file or folder")
        if not path.is_file():
            raise ValueError("neither a file nor a folder")
        text = read_text(path)
        if not text:
            raise ValueError("empty")
        return [text]
