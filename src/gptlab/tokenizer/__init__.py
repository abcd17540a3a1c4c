"""Tokenizers: from text to token ids and back.

Contract: `train(documents)` gives an `Encoder`; `load(folder)` gives the same one back from the
`tokenizer.json` that `save` wrote. Decoding what was encoded gives the text again, character for
character. No text becomes `end_of_text` or another special token, unless that is asked for: those
are for gptlab to put where they belong.
"""

import json
from abc import abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from inspect import getmembers, isfunction
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import PositiveInt

from gptlab import files
from gptlab.config import Part, find_variant, nearest, variant_names
from gptlab.plain_yaml import read_yaml_file
from gptlab.tokenizer import _chats
from gptlab.tokenizer._chat import Chat as Chat
from gptlab.tokenizer._encoder import CHAT_FILE as CHAT_FILE
from gptlab.tokenizer._encoder import FILE as FILE
from gptlab.tokenizer._encoder import MAX_FILE_BYTES as MAX_FILE_BYTES
from gptlab.tokenizer._encoder import Encoder as Encoder


class Tokenizer(Part):
    """The slot `tokenizer`.

    `pad_to_multiple_of`: the model's vocabulary is rounded up to a multiple of this, for speed. Ids
    stay what they are: what is added is in no text, is never sampled, and counts in the loss as any
    token that does not come.
    """

    # whether `train` must see validation text too: what it has not seen could not be written down
    must_see_all_text: ClassVar[bool] = False

    pad_to_multiple_of: PositiveInt = 1

    @property
    @abstractmethod
    def expected_vocab_size(self) -> int:
        """The number of ids, as far as it is known before any text is read."""

    @abstractmethod
    def train(self, documents: Iterable[str]) -> Encoder:
        """Learn the tokens of these texts; the same texts give the same ones, in any order."""

    @abstractmethod
    def restore(self, tree: Any) -> Encoder:
        """Rebuild an encoder from its `tree`. Raises ValueError for anything else."""

    @classmethod
    def recognise(cls, tree: Any) -> Self | None:
        """Tell the settings of the tokenizer that wrote a `tree`, None if it is another variant."""
        name = cls.__module__.rpartition(".")[2]
        return cls() if isinstance(tree, dict) and tree.get("type") == name else None

    def padded(self, n_tokens: int) -> int:
        """Round up the size of a vocabulary."""
        return n_tokens + -n_tokens % self.pad_to_multiple_of

    def load(self, folder: Path) -> Encoder:
        """Read `tokenizer.json`, and `chat.json` if there is one; nothing in them runs.

        The file must be exactly what `save` writes, else ValueError with the file's name.
        """
        file = Path(folder) / FILE
        encoder = files.read_parsed(
            file, MAX_FILE_BYTES, self._restore_exactly, f"not a {self.variant} tokenizer: "
        )
        load_chat(Path(folder), encoder)
        return encoder

    def _restore_exactly(self, content: bytes) -> Encoder:
        text = content.decode("utf-8")
        encoder = self.restore(json.loads(text))
        if encoder.to_json() != text:
            raise ValueError("damaged or changed by hand")
        return encoder


def open_tokenizer(place: str | Path) -> tuple[Tokenizer, Encoder]:
    """Open a tokenizer: its folder, that of a run, one from elsewhere (`pretrained`), or `byte`.

    Gives the settings that load it, too. Raises ValueError if there is none, or it is damaged.
    """
    path = Path(place).expanduser()
    if str(place) == "byte" and not path.exists():
        tokenizer = Tokenizer.parse("byte")
        return tokenizer, tokenizer.train([])
    if (ours := open_ours(path)) is not None:
        return ours
    if not path.exists():
        raise ValueError(f"{place}: no such file or folder; a tokenizer without one is `byte`")
    tokenizer = Tokenizer.parse({"type": "pretrained", "path": str(place)})
    return tokenizer, tokenizer.train([])


def open_ours(folder: Path) -> tuple[Tokenizer, Encoder] | None:
    """Open what `save` wrote into a folder, or into a run's; None if it is from elsewhere."""
    if (folder / "tokenizer" / FILE).is_file():
        folder /= "tokenizer"
    if not (folder / FILE).is_file():
        return None
    tree = files.read_parsed(folder / FILE, MAX_FILE_BYTES, json.loads)
    tokenizer = recognise(tree)
    if isinstance(tree, dict) and "type" in tree:  # Hugging Face's has none
        if tokenizer is None:
            raise ValueError(f"{folder / FILE}: a tokenizer of a type that gptlab does not know")
        return tokenizer, tokenizer.load(folder)
    with suppress(ValueError):  # it may only resemble ours
        return tokenizer and (tokenizer, tokenizer.load(folder))
    return None


def open_encoder(place: str | Path) -> Encoder:
    """Open a tokenizer as `open_tokenizer` does, without its settings."""
    return open_tokenizer(place)[1]


def recognise(tree: Any) -> Tokenizer | None:
    """Tell the settings of the tokenizer that wrote a `tree`, None if there is none that does."""
    variants = (find_variant(Tokenizer, name) for name in variant_names(Tokenizer))
    return next((found for x in variants if (found := x.recognise(tree)) is not None), None)


def load_chat(folder: Path, encoder: Encoder) -> None:
    """Give an encoder the chat template of a folder, if there is one."""
    file = folder / CHAT_FILE
    if file.exists():
        chat = files.read_parsed(file, MAX_FILE_BYTES, Chat.from_json, "not a chat template: ")
        encoder.use_chat(chat, str(file))


def find_chat(name: str) -> Chat:
    """Find a chat template by its name, or read it from a YAML file."""
    templates = {x: f for x, f in getmembers(_chats, isfunction) if f.__module__ == _chats.__name__}
    if name in templates:
        return templates[name]()
    if not Path(name).is_file():
        raise ValueError(
            f"no chat template named {name!r}, and no such file{nearest(name, list(templates))} "
            f"(there are: {', '.join(templates)})"
        )
    try:
        return Chat.parse(read_yaml_file(Path(name)))
    except ValueError as error:
        raise ValueError(f"{name}: not a chat template: {error}") from None
