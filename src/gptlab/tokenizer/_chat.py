"""Chat templates: how a conversation is written as one text, by a fixed form in which nothing runs.

A conversation is `begin` and then, message by message, the prefix of its role, its content, and the
suffix of its role. Each of them is encoded by itself, so that the ids of a conversation begin with
those of its beginning. Special tokens come from the template alone: in a content, their spelling is
text.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, model_validator

from gptlab.config import Config, nearest
from gptlab.tokenizer._special import SpecialTokens

ASSISTANT = "assistant"

Message = Mapping[str, str]


class Turn(Config):
    """What stands before and after a message of a role."""

    prefix: str
    suffix: str


class Chat(Config):
    """`special`: the special tokens that the template uses, as they are spelled in it.

    `turns`: by role; there is one for the assistant.
    """

    special: SpecialTokens = ()
    begin: str = ""
    turns: Annotated[dict[str, Turn], Field(min_length=2)]

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if ASSISTANT not in self.turns:
            raise ValueError(f"turns: there is none for the role {ASSISTANT!r}")
        texts = [
            self.begin,
            *(x for turn in self.turns.values() for x in (turn.prefix, turn.suffix)),
        ]
        for token in self.special:
            if not any(token in text for text in texts):
                raise ValueError(f"special: {token!r} is nowhere in the template")
        if not self.turns[ASSISTANT].suffix:
            raise ValueError("turns.assistant.suffix is empty: a reply could not end")
        return self

    def spans(self, messages: Sequence[Message], reply: bool) -> Iterator["Span"]:
        """Write down a conversation, as spans of text that are encoded one by one.

        Raises ValueError for a message that is not one.
        """
        yield Span(self.begin, is_template=True)
        for number, message in enumerate(messages, 1):
            role, content = _role_and_content(message, number, list(self.turns))
            turn, is_said = self.turns[role], role == ASSISTANT
            yield Span(turn.prefix, is_template=True)
            yield Span(content, is_said=is_said)
            end = self._end(turn.suffix)
            yield Span(turn.suffix[:end], is_template=True, is_said=is_said)
            yield Span(turn.suffix[end:], is_template=True)
        if reply:
            yield Span(self.turns[ASSISTANT].prefix, is_template=True)

    def _end(self, suffix: str) -> int:
        """Tell where a suffix has said that the message ends: after its first special token."""
        ends = [suffix.find(token) + len(token) for token in self.special if token in suffix]
        return min(ends, default=len(suffix))

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        return cls.parse(json.loads(text))


@dataclass(frozen=True)
class Span:
    """A part of a conversation. `is_template`: special tokens are read in it.

    `is_said`: the assistant has to say it.
    """

    text: str
    is_template: bool = False
    is_said: bool = False


def _role_and_content(message: Message, number: int, roles: list[str]) -> tuple[str, str]:
    match message:
        case {"role": str(role), "content": str(content)}:
            if role in roles:
                return role, content
            raise ValueError(
                f"message {number}: no role {role!r} in the chat template"
                f"{nearest(role, roles)} (there are: {', '.join(roles)})"
            )
    raise ValueError(f"message {number} needs a `role` and a `content`, both text")
