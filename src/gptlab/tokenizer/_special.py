"""Special tokens: ids that no text becomes by itself."""

from typing import Annotated

from pydantic import Field

END_OF_TEXT = "<|endoftext|>"

SpecialTokens = tuple[Annotated[str, Field(min_length=1, max_length=100)], ...]


def number_special(special: SpecialTokens, start: int) -> dict[str, int]:
    """Number end_of_text, which there always is, and then the others, from `start` on."""
    return {token: id for id, token in enumerate(dict.fromkeys((END_OF_TEXT, *special)), start)}
