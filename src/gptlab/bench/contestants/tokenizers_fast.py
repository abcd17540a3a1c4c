"""The tokenizers library's `encode_batch_fast`, which tells no places."""

from typing import Any

from gptlab.bench.contestants import tokenizers


def tokenize(job: dict[str, Any], beat: Any) -> None:
    tokenizers.tokenize(job, beat, "encode_batch_fast")
