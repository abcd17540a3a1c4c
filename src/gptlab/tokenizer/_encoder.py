"""Encoders: what a trained tokenizer is."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from gptlab import files
from gptlab.tokenizer._chat import Chat, Message

FILE = "tokenizer.json"
CHAT_FILE = "chat.json"
MAX_FILE_BYTES = 100_000_000


class Encoder(ABC):
    """A trained tokenizer: ids are 0 to `vocab_size` - 1.

    `special`: the tokens that no text becomes by itself, their ids by their spelling.
    `end_of_text`: the one that stands between documents, or None if there is none.
    `start_of_text`: the one that stands before every text, or None; some models expect one.
    `chat`: how conversations are written, or None.
    """

    vocab_size: int
    end_of_text: int | None
    start_of_text: int | None = None
    special: Mapping[str, int] = {}
    chat: Chat | None = None

    def encode(self, text: str, allow_special: bool = False) -> np.ndarray:
        """Encode to int64 ids. Raises ValueError for what the tokenizer cannot write down.

        `allow_special`: what is spelled like a special token becomes it; for text of one's own.
        """
        if not allow_special or not self.special:
            return self.encode_all([text])[0]
        spellings = sorted(self.special, key=len, reverse=True)
        parts = re.split(f"({'|'.join(map(re.escape, spellings))})", text)
        ids = [np.array([self.special.get(part, -1)]) for part in parts]
        ids[::2] = self.encode_all(parts[::2])
        return np.concatenate(ids)

    @abstractmethod
    def encode_all(self, documents: Sequence[str]) -> list[np.ndarray]:
        """Encode each document by itself, as ordinary text."""

    def use_chat(self, chat: Chat, name: str = "the chat template") -> None:
        """Take a chat template. Raises ValueError if it needs a special token that is not there."""
        for token in chat.special:
            if token not in self.special:
                raise ValueError(
                    f"{name} uses {token!r}, which the tokenizer does not have as a special token "
                    f"(it has: {', '.join(self.special) or 'none'}); train it with "
                    f"--special '{token}'"
                )
        self.chat = chat

    def encode_chat(
        self, messages: Sequence[Message], reply: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Write down a conversation: its ids, and which of them the assistant has to say.

        `messages`: mappings with a `role` and a `content`. Contents are ordinary text, whatever
        they spell. Of an assistant's message counts the content, and what follows it up to its
        first special token. `reply`: end with what an assistant's message begins with.
        Raises ValueError if there is no chat template, or no such role in it.
        """
        if self.chat is None:
            raise ValueError(
                "the tokenizer has no chat template: make one with `gptlab tokenizer train --chat`"
            )
        spans = list(self.chat.spans(messages, reply))
        ids = [self.encode(span.text, allow_special=span.is_template) for span in spans]
        said = [np.full(len(part), span.is_said) for part, span in zip(ids, spans, strict=True)]
        nothing = np.array([], np.int64)
        return np.concatenate([nothing, *ids]), np.concatenate([nothing.astype(bool), *said])

    @abstractmethod
    def bytes_of(self, id: int) -> bytes:
        """The UTF-8 bytes of one token, perhaps a part of a character; none for special ones."""

    def decode(self, ids: Sequence[int]) -> str:
        """Decode a complete text; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(self.bytes_of(id) for id in ids).decode("utf-8", errors="replace")

    @abstractmethod
    def tree(self) -> dict[str, Any]:
        """Everything there is to know about this encoder but its chat template, as plain data."""

    def to_json(self) -> str:
        """Write down the tree: the same encoder gives the same text on every machine."""
        return json.dumps(self.tree(), ensure_ascii=False, separators=(",", ":"))

    def save(self, folder: Path) -> None:
        """Write folder/tokenizer.json, and folder/chat.json if there is a chat template.

        Each is written as a whole or, if that fails, not at all.
        """
        folder.mkdir(parents=True, exist_ok=True)
        files.replace(folder / FILE, self.to_json().encode("utf-8"))
        if self.chat is None:
            files.remove(folder / CHAT_FILE)
        else:
            files.replace(folder / CHAT_FILE, self.chat.to_json().encode("utf-8"))

    def fingerprint(self) -> str:
        """The sha256 of what `save` writes."""
        chat = "" if self.chat is None else self.chat.to_json()
        return sha256((self.to_json() + chat).encode("utf-8")).hexdigest()


def utf8(text: str) -> bytes:
    """Encode text. Raises ValueError for half a surrogate pair, which no text contains."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {text[error.start]!r} at position {error.start:,} is half of a pair of "
            "surrogates: this is not text; read it with errors='replace'"
        ) from None
