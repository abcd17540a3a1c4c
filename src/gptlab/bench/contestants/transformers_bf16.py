"""Hugging Face with its own switch for bfloat16: `bf16=True`, or weights in it to generate."""

from typing import Any

from gptlab.bench.contestants import transformers


def train(job: dict[str, Any], beat: Any) -> None:
    transformers.train(job | {"bf16": True}, beat)


def generate(job: dict[str, Any], beat: Any) -> None:
    transformers.generate(job | {"bf16": True}, beat)
