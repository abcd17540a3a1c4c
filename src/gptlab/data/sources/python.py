"""The Python source of the running interpreter's standard library: text that is always there.

About 9 million characters in 500 documents, in the order of their paths. Another version of
Python has another library, hence another corpus: its fingerprint tells.
"""

import sysconfig
from pathlib import Path
from typing import ClassVar

from gptlab.data.sources._files import files_below, read_texts
from gptlab.data.sources._texts import Texts

LEAVE_OUT = (
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "encodings",  # tables of characters and
    "pydoc_data",  # the manual: together a fifth of the library, and little of it is Python
    "__pycache__",
)


class Python(Texts):
    """No settings of its own."""

    prompt: ClassVar[str] = "    def __init__(self, "

    def documents(self) -> list[str]:
        library = Path(sysconfig.get_path("stdlib"))
        files = files_below(library, LEAVE_OUT) if library.is_dir() else []
        texts = read_texts(file for file in files if file.suffix == ".py")
        if not texts:
            raise ValueError(
                f"{self.name}: no .py files in {library}; give a text of your own: data.path=FILE"
            )
        return texts
