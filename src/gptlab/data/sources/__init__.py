"""Sources of text.

Contract: `documents()` gives texts, none of them empty, in the same order each time. A byte order
mark is dropped; line ends stay as they are.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from gptlab.config import Part


class Data(Part):
    """The slot `data`.

    `path`: a text file, or a folder of them; given to any variant it means the variant `text`, so
    that `data.path=FILE` works everywhere. `val_fraction`: how much of the text, counted in
    characters, is kept for validation. `prompt`: what a sample of such text may begin with.
    """

    prompt: ClassVar[str] = ""

    path: Annotated[str, Field(min_length=1)] | None = None
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1

    @abstractmethod
    def documents(self) -> list[str]:
        """Read the texts. Raises ValueError if there are none, or if they are not text."""

    @property
    def name(self) -> str:
        """What the user wrote to choose this text."""
        return f"data={self.variant}" if self.path is None else f"data.path={self.path}"

    @model_validator(mode="wrap")
    @classmethod
    def _read_a_path_as_text(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        names_its_variant = isinstance(data, Mapping) and (cls is Data or "type" in data)
        if names_its_variant and data.get("path") is not None:
            data = {**data, "type": "text"}
        return handler(data)

    @model_validator(mode="after")
    def _only_text_has_a_path(self) -> Self:
        if self.variant == "text" and self.path is None:
            raise ValueError("`text` needs a path: data.path=FILE-or-FOLDER")
        if self.variant != "text" and self.path is not None:
            raise ValueError(f"`{self.variant}` has no path; `text` has")
        return self
