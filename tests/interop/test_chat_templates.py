"""A chat template goes along when a tokenizer is written for transformers, and says the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from gptlab.interop.tokens import describe_tokenizer
from gptlab.tokenizer import Chat, Encoder, find_chat
from gptlab.tokenizer.bpe import BPE
from gptlab.tokenizer.byte import Byte

TEXT = "system user assistant: hello there, how are you? fine, and you? naïve 東京\n" * 9
ODD = Chat.parse(
    {
        "special": ["[E'\"]"],
        "begin": "\\n\t{{ 1 }}{% 東🙂\n",
        "turns": {
            "user": {"prefix": "\"U'\\", "suffix": "[E'\"]"},
            "assistant": {"prefix": "", "suffix": "[E'\"]\r\n"},
        },
    }
)
CONVERSATION = [
    {"role": "user", "content": "how {{ are }} you?\n"},
    {"role": "assistant", "content": "fine 'and' \"you\"? 東"},
    {"role": "user", "content": ""},
]


def written(encoder: Encoder, folder: Path) -> Any:
    for name, tree in describe_tokenizer(encoder).files.items():
        (folder / name).write_text(json.dumps(tree), encoding="utf-8")
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("kind", [BPE(vocab_size=360), Byte()], ids=lambda kind: kind.variant)
@pytest.mark.parametrize("chat", [find_chat("chatml"), ODD], ids=["chatml", "odd"])
@pytest.mark.parametrize("reply", [False, True])
def test_transformers_writes_the_same_ids(
    kind: BPE | Byte, chat: Chat, reply: bool, tmp_path: Path
):
    encoder = kind.but(special=chat.special).train([TEXT])
    encoder.use_chat(chat)
    theirs = written(encoder, tmp_path)
    ids, _ = encoder.encode_chat(CONVERSATION, reply)
    text = theirs.apply_chat_template(CONVERSATION, add_generation_prompt=reply, tokenize=False)
    spellings = {id: spelling.encode() for spelling, id in encoder.special.items()}
    spelled = b"".join(spellings.get(id) or encoder.bytes_of(id) for id in ids.tolist())
    assert text == spelled.decode()
    if chat is not ODD or isinstance(kind, Byte):  # its texts join into other tokens
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids.tolist()


def test_another_role_is_refused(tmp_path: Path):
    encoder = Byte(special=ODD.special).train([])
    encoder.use_chat(ODD)
    with pytest.raises(Exception, match="no such role: tool"):
        written(encoder, tmp_path).apply_chat_template([{"role": "tool", "content": "x"}])


def test_without_one_there_is_none(tmp_path: Path):
    assert written(Byte().train([]), tmp_path).chat_template is None
