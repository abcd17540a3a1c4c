"""Hugging Face's `generate` with its static cache."""

from typing import Any

from gptlab.bench.contestants import transformers


def generate(job: dict[str, Any], beat: Any) -> None:
    transformers.generate(job | {"static": True}, beat)
