"""Training a tokenizer by itself: from a source of text to a folder with a tokenizer in it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from gptlab import files
from gptlab.config import variant_names
from gptlab.data.formats import Reading, fragments
from gptlab.data.preparation.source import open_source
from gptlab.data.prepared import is_prepared
from gptlab.data.sources import Data
from gptlab.data.sources._texts import Texts
from gptlab.tokenizer import Chat, Encoder, Tokenizer

Advance = Callable[[int], None]


def read_source(source: str, limit: int | None = None) -> list[str]:
    """Read the texts of what can be prepared, or of a source by its name, such as `python`.

    `limit`: the first so many bytes of them, in the order of their paths; a character is not cut.
    What is not UTF-8 text is left out. Raises ValueError if nothing is left.
    """
    texts = _documents(source)
    if source in variant_names(Data) and not Path(source).exists():
        data = Data.parse({"type": source})
        assert isinstance(data, Texts), f"{source} can be read without a path, but gives no texts"
        texts = data.documents()
    documents = list(texts if limit is None else _first(texts, limit))
    if not documents:
        raise ValueError(f"{source}: no UTF-8 text in it")
    return documents


def train_tokenizer(
    tokenizer: Tokenizer,
    documents: Sequence[str],
    out: Path,
    chat: Chat | None = None,
    advance: Advance = lambda n_characters: None,
) -> Encoder:
    """Train a tokenizer and write it into a new folder, whole or not at all.

    `advance` hears of the characters that are read. Raises ValueError if the folder has something
    in it.
    """
    check_empty(out)
    encoder = tokenizer.train(_tell(documents, advance))
    if chat is not None:
        encoder.use_chat(chat)
    temporary = out.with_name(files.temporary_name(out.name))
    try:
        encoder.save(temporary)
        if out.is_dir():
            out.rmdir()  # Windows gives no name that is taken
        files.rename(temporary, out)
    except BaseException as error:
        with suppress(OSError):
            files.remove(temporary)
        if isinstance(error, OSError):
            raise files.WriteError(f"{out} could not be made: {files.reason(error)}") from error
        raise
    return encoder


def check_empty(out: Path) -> None:
    """Raise ValueError for a place that something is in already."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise ValueError(f"--out={out} is there already and not an empty folder; choose another")


def _documents(source: str) -> Iterator[str]:
    if is_prepared(source):
        raise ValueError(f"{source}: a prepared set holds tokens; give the text it was made of")
    reading = Reading(errors="skip")
    parts: list[str] = []
    for piece in open_source(source, reading, None).pieces:
        for span in piece.spans:
            for fragment in fragments(span, reading):
                parts.append(fragment.text)
                if fragment.last:
                    if text := "".join(parts):
                        yield text
                    parts = []


def _first(documents: Iterable[str], n_bytes: int) -> Iterator[str]:
    for document in documents:
        content = document.encode("utf-8")[:n_bytes]
        if not content:
            return
        yield content.decode("utf-8", errors="ignore")
        n_bytes -= len(content)


def _tell(documents: Iterable[str], advance: Advance) -> Iterator[str]:
    for document in documents:
        yield document
        advance(len(document))
