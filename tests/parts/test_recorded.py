"""Every variant of every slot must write by a recorded step what it writes from whole texts.

Where a step cannot be recorded, as with experts, it must be noticed.
"""

import pytest
import torch
from test_contracts import Parts, Tiny, build, every_case

from gptlab.generate import reading
from gptlab.generate.generator import generate_tokens

PROMPTS = [[3, 1, 4, 1, 5, 9, 2], [6, 5], [3, 5, 8, 9, 7, 9, 3, 2, 3, 8]]


def greedy(logits_NV: torch.Tensor) -> torch.Tensor:
    return logits_NV.argmax(-1)


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Record from the first step on; tell of each attempt whether it succeeded."""
    attempts, record = [], reading.record

    def watched(*args):
        attempts.append(False)
        recorded = record(*args)
        attempts[-1] = True
        return recorded

    monkeypatch.setattr(reading, "WORTH_RECORDING", 0)
    monkeypatch.setattr(reading, "record", watched)
    return attempts


@every_case
@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS], ids=["one", "several"])
def test_a_recorded_step_is_the_step(
    tiny: Tiny, parts: Parts, prompts: list[list[int]], recordings: list[bool]
):
    gpt = build(tiny, parts)
    recorded = torch.stack([*generate_tokens(gpt, prompts, 40, greedy)])
    looks_into_tensors = "mixture_of_experts" in str(parts)
    assert set(recordings) == {not looks_into_tensors}
    read = torch.stack([*generate_tokens(gpt, prompts, 40, greedy, use_cache=False)])
    assert torch.equal(recorded, read)
