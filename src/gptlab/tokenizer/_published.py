"""Reading tokenizers as others publish them."""

import re
from functools import partial
from pathlib import Path
from typing import Any

from gptlab import files
from gptlab.tokenizer._encoder import FILE, MAX_FILE_BYTES
from gptlab.tokenizer._hugging_face import Merge, build, describe_parts
from gptlab.tokenizer._special import END_OF_TEXT
from gptlab.tokenizer._tiktoken import read_tiktoken

PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))


def read_published(path: Path) -> dict[str, Any]:
    """Read a folder or a `.tiktoken` file as the tree of a tokenizer.json.

    Raises ValueError if there is no tokenizer, or a damaged one.
    """
    if path.is_file():
        if path.suffix != ".tiktoken":
            raise ValueError(f"{path} is not a .tiktoken file; give its folder: {path.parent}")
        return _read_tiktoken(path)
    inner = _read_json(path / FILE)
    if inner is not None:
        return inner
    for vocabulary, merges in PAIRS:
        if (path / vocabulary).exists() and (path / merges).exists():
            return _read_merges(path / vocabulary, path / merges)
    for file in sorted(path.glob("*.tiktoken")):
        return _read_tiktoken(file)
    pairs = ", nor ".join(" and ".join(pair) for pair in PAIRS)
    raise ValueError(f"{path} has no tokenizer: neither {FILE}, nor {pairs}, nor a .tiktoken file")


def _read_json(file: Path) -> dict[str, Any] | None:
    return files.read_object(file, MAX_FILE_BYTES)


def _read_merges(vocabulary: Path, merges: Path) -> dict[str, Any]:
    """Make a tokenizer.json of GPT-2's two files."""
    ids = _read_json(vocabulary) or {}
    text = files.read_parsed(merges, MAX_FILE_BYTES, bytes.decode, "damaged: ")
    lines = text.split("\n")
    pairs: list[Merge] = []
    has_title = lines[0].startswith("#version")
    for number, line in enumerate(lines[has_title:], 1 + has_title):
        match line.split(" "):
            case [a, b]:
                pairs.append((a, b))
            case [""]:
                pass
            case _:
                raise ValueError(f"{merges}: damaged: line {number:,} is not a pair of tokens")
    special = {token: id for token, id in ids.items() if re.fullmatch(r"<\|.*\|>", token)}
    return describe_parts("gpt2", ids, pairs, special)


def _read_tiktoken(file: Path) -> dict[str, Any]:
    return files.read_parsed(file, MAX_FILE_BYTES, partial(read_tiktoken, file.stem))


def find_end_of_text(folder: Path, inner: dict[str, Any]) -> str | None:
    """Find what ends a text: by name in a config, by id in another, or as most call it.

    Raises ValueError for an id that no token has.
    """
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        match (_read_json(folder / name) or {}).get("eos_token"):
            case str(content) | {"content": str(content)}:
                return content
    for name in ("generation_config.json", "config.json"):
        match (_read_json(folder / name) or {}).get("eos_token_id"):
            case None | []:
                pass
            case [id, *_] | id:
                return _token_of(inner, id, folder / name)
    added = build(inner).get_added_tokens_decoder().values()
    return END_OF_TEXT if END_OF_TEXT in [token.content for token in added] else None


def _token_of(inner: dict[str, Any], id: Any, file: Path) -> str:
    ids = build(inner).get_vocab(with_added_tokens=True)
    for token, number in ids.items():
        if type(id) is int and number == id:
            return token
    raise ValueError(f"{file}: eos_token_id={str(id)[:40]} is not the id of one of its tokens")
