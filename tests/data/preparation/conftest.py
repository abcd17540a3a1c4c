"""A tokenizer, a way to prepare without a word, and documents of all kinds."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gptlab.data.preparation import run
from gptlab.data.preparation.options import Options
from gptlab.data.prepared import PreparedSet
from gptlab.tokenizer.bpe import BPE

Prepare = Callable[..., PreparedSet]


class Silent:
    """Hears and remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.wanted: Any = None

    def say(self, text: str) -> None:
        self.said.append(text)

    def estimated(self, source: Any, wanted: Any, workers: int) -> None:
        self.wanted = wanted

    def began(self, total_bytes: int, done_bytes: int) -> None:
        self.done_bytes = done_bytes

    def progress(self, done: Any) -> None:
        pass


@pytest.fixture(scope="session")
def documents() -> list[str]:
    draw = random.Random(5)
    words = [
        "naïve",
        "東京",
        "<|endoftext|>",
        "two words",
        "\r\n",
        "\n\n",
        "x" * 50,
        "🙂",
        '"',
        ",",
    ]
    texts = ["".join(draw.choices(words, k=draw.randint(1, 60))) for _ in range(300)]
    return [f"{i} {text}" for i, text in enumerate(texts)]


@pytest.fixture(scope="session")
def tok(tmp_path_factory: pytest.TempPathFactory, documents: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("tok")
    BPE(vocab_size=320).train(documents).save(folder)
    return folder


@pytest.fixture
def prepare(tmp_path: Path, tok: Path) -> Prepare:
    """Prepare a source in one process, in a new folder; `prepare.listener` has heard it."""
    count = iter(range(1000))

    def prepare(source: object, **options: Any) -> PreparedSet:
        prepare.listener = Silent()  # pyright: ignore[reportFunctionMemberAccess]
        given: dict[str, Any] = {
            "source": str(source),
            "tokenizer": str(tok),
            "out": tmp_path / f"out-{next(count)}",
            "workers": 1,
            "val_fraction": 0.2,
        }
        if "val_documents" in options:
            del given["val_fraction"]
        return run.prepare(Options(**(given | options)), prepare.listener)  # pyright: ignore

    return prepare
