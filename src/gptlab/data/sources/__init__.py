"""Where text comes from: sources of documents, and sets that were prepared before.

Contract: `prepare(tokenizer)` gives an encoder and the token ids of both splits,
`tokenize(encoder)` the same by an encoder that is there already, and `tokenizer(asked)` tells which
tokenizer `prepare` takes. Sources of documents inherit all that from `_texts.Texts`, and give texts
by `documents()`.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from gptlab.config import Part, find_variant
from gptlab.data.prepared import is_prepared, is_remnant
from gptlab.tokenizer import Encoder, Tokenizer

if TYPE_CHECKING:
    from gptlab.data.corpus import Corpus


class Data(Part):
    """The slot `data`.

    `path`: a text file, a folder of them, or a prepared set; given to any variant it means the
    variant `text` or, for a folder that `gptlab prepare` wrote, `prepared`, so that
    `data.path=PATH` works everywhere. `prompt`: what a sample of such text may begin with.
    """

    prompt: ClassVar[str] = ""
    has_path: ClassVar[bool] = False

    path: Annotated[str, Field(min_length=1)] | None = None

    @abstractmethod
    def prepare(self, tokenizer: Tokenizer) -> tuple[Encoder, "Corpus"]:
        """Read the text, train the tokenizer on its training split, and tokenize both splits."""

    @abstractmethod
    def tokenize(self, encoder: Encoder) -> "Corpus":
        """Read the text and tokenize both splits."""

    @property
    @abstractmethod
    def split_setting(self) -> str:
        """The setting, with its value, that decides how much is for validation."""

    def tokenizer(self, asked: Tokenizer) -> Tokenizer:
        """Tell which tokenizer `prepare` takes, whatever was asked for."""
        return asked

    def expected_vocab_size(self, asked: Tokenizer) -> int:
        """The number of ids, as far as it is known before any text is read."""
        return asked.expected_vocab_size

    def without_paths(self) -> dict[str, Any]:
        """Tell it apart from others but for where its texts are."""
        return {name: v for name, v in self.model_dump(mode="json").items() if name != "path"}

    @property
    def name(self) -> str:
        """What the user wrote to choose this text."""
        return f"data={self.variant}" if self.path is None else f"data.path={self.path}"

    @model_validator(mode="wrap")
    @classmethod
    def _choose_by_path(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        names_its_variant = isinstance(data, Mapping) and (cls is Data or "type" in data)
        if names_its_variant and data.get("path") is not None and data.get("type") != "prepared":
            path = data["path"]
            if isinstance(path, str) and is_remnant(path):
                raise ValueError(
                    f"data.path={path}: an unfinished or damaged prepared set: run the same gptlab "
                    "prepare again"
                )
            if isinstance(path, str) and is_prepared(path):
                data = {"type": "prepared", "path": path}  # it is split already
            else:
                data = _as_text(data)
        return handler(data)

    @model_validator(mode="after")
    def _check_path(self) -> Self:
        if self.has_path and self.path is None:
            raise ValueError(f"`{self.variant}` needs a path: data.path=FILE-or-FOLDER")
        if not self.has_path and self.path is not None:
            raise ValueError(f"`{self.variant}` has no path; `text` has")
        return self


def _as_text(data: Mapping[str, Any]) -> dict[str, Any]:
    """Name the variant `text`, and leave out what only the variant that was named knows."""
    named = find_variant(Data, data["type"]) if "type" in data else Data
    text = find_variant(Data, "text")
    foreign = named.model_fields.keys() - text.model_fields.keys()
    return {name: value for name, value in data.items() if name not in foreign} | {"type": "text"}
