"""Chat templates that have a name: every public function of this file."""

from gptlab.tokenizer._chat import ASSISTANT, Chat, Turn
from gptlab.tokenizer._special import END_OF_TEXT


def chatml() -> Chat:
    """OpenAI's ChatML, which Qwen and others use; it has two special tokens of its own."""
    start, end = "<|im_start|>", "<|im_end|>"
    turns = {
        role: Turn(prefix=f"{start}{role}\n", suffix=f"{end}\n")
        for role in ("system", "user", ASSISTANT, "tool")
    }
    return Chat(special=(start, end), turns=turns)


def plain() -> Chat:
    """Names and colons; a reply ends with the end of a text, which most tokenizers have."""
    turns = {
        "system": Turn(prefix="", suffix="\n\n"),
        "user": Turn(prefix="User: ", suffix="\n\n"),
        ASSISTANT: Turn(prefix="Assistant: ", suffix=END_OF_TEXT),
    }
    return Chat(special=(END_OF_TEXT,), turns=turns)
