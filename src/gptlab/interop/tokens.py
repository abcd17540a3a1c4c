"""Our tokenizers as Hugging Face's `tokenizer.json`, and what stands beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from json import dumps
from typing import Any

from gptlab.tokenizer import Chat, Encoder
from gptlab.tokenizer._chat import ASSISTANT
from gptlab.tokenizer._hugging_face import BYTE_OF, byte_level, special_token
from gptlab.tokenizer._special import END_OF_TEXT
from gptlab.tokenizer.bpe import BPEEncoder
from gptlab.tokenizer.byte import ByteEncoder
from gptlab.tokenizer.char import CharEncoder
from gptlab.tokenizer.pretrained import PretrainedEncoder

FUSE = {"type": "Fuse"}


@dataclass(frozen=True)
class Tokens:
    """`files`: trees by file name. `ids`: settings of config.json."""

    files: dict[str, dict[str, Any]]
    ids: dict[str, int]


def describe_tokenizer(encoder: Encoder) -> Tokens:
    """Describe a tokenizer. Raises ValueError if it has no form there."""
    match encoder:
        case PretrainedEncoder(inner=inner, end=end):
            tree = inner
        case BPEEncoder():
            tree, end = encoder.tree(), END_OF_TEXT
        case ByteEncoder():
            tree, end = _bytes(encoder.special), END_OF_TEXT
        case CharEncoder(characters=characters):
            tree, end = _characters(characters), None
        case _:
            raise ValueError(
                f"{type(encoder).__name__} has no Hugging Face form; train with tokenizer=bpe"
            )
    names = {id: name for name, id in encoder.special.items()}
    marks = {"eos": encoder.end_of_text, "bos": encoder.start_of_text}
    ids = {f"{mark}_token_id": id for mark, id in marks.items() if id is not None}
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
    if end is not None:
        config["eos_token"] = end
    if encoder.start_of_text is not None:
        config["bos_token"] = names[encoder.start_of_text]
    if encoder.chat is not None:
        config["chat_template"] = write_template(encoder.chat)
    files = {"tokenizer.json": tree, "tokenizer_config.json": config}
    return Tokens(files | {"generation_config.json": ids}, ids)


def write_template(chat: Chat) -> str:
    """Write a chat template in Jinja, which transformers reads, of conditions and texts alone."""
    cases = [
        f"if message['role'] == {_quoted(role)} %}}{{{{ {_quoted(turn.prefix)} + "
        f"message['content'] + {_quoted(turn.suffix)} }}}}{{% "
        for role, turn in chat.turns.items()
    ]
    reply = _quoted(chat.turns[ASSISTANT].prefix)
    return (
        f"{{{{ {_quoted(chat.begin)} }}}}{{% for message in messages %}}{{% {'el'.join(cases)}"
        "else %}{{ raise_exception('no such role: ' + message['role']) }}{% endif %}{% endfor %}"
        f"{{% if add_generation_prompt %}}{{{{ {reply} }}}}{{% endif %}}"
    )


def _quoted(text: str) -> str:
    return dumps(text, ensure_ascii=False)


def _bytes(special: Mapping[str, int]) -> dict[str, Any]:
    """Bytes as tokens: byte-pair encoding without a pair."""
    added = [special_token(spelling, id) for spelling, id in special.items()]
    model = {"type": "BPE", "vocab": BYTE_OF, "merges": []}
    return _tree(model, byte_level(use_regex=False), byte_level(use_regex=False), added)


def _characters(characters: str) -> dict[str, Any]:
    """Characters as tokens: every one is a word; others are refused, as here."""
    each = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated"}
    vocabulary = {character: id for id, character in enumerate(characters)}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "unknown character"}
    return _tree(model, each | {"invert": False}, FUSE, [])


def _tree(
    model: dict[str, Any],
    pre_tokenizer: dict[str, Any],
    decoder: dict[str, Any],
    added: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": model,
    }
