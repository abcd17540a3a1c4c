import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from gptlab.model.gpt import Model
from gptlab.model.memory import training_memory

SETTINGS = {
    "vocab_size": 2000,
    "context_length": 256,
    "d_model": 256,
    "n_layers": 4,
    "positions": "rotary",
    "norm": "rms_norm",
    "attention": {"type": "grouped_query", "n_heads": 4, "n_kv_heads": 2},
    "mlp": "swiglu",
    "residual": "pre_norm",
    "head": "untied",
    "initialization": "gpt2",
}
TRAIN_FOR_REAL = """
import json, sys, torch
from gptlab.kernels.places import Places
from gptlab.model.gpt import Model
from gptlab.model.memory import StepWithAdamW

def kilobytes(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))

def train(model, batch_size):
    gpt, T = model.build(), model.context_length
    optimizer = StepWithAdamW(gpt)
    for _ in range(2):
        tokens = torch.randint(model.vocab_size, (batch_size, T))
        documents = (torch.arange(T) >= T // 2).long().expand(batch_size, T)
        places = Places.packed(documents) if sys.argv[3] == "True" else None
        gpt.loss(tokens, tokens, places=places).backward()
        optimizer.step()

settings, batch_size = json.loads(sys.argv[1]), int(sys.argv[2])
small = {"d_model": 16, "n_layers": 1, "vocab_size": 10, "context_length": 8}
train(Model.parse(settings | small), 1)  # what torch loads at its first step is not the model's
before = kilobytes("VmRSS")
train(Model.parse(settings), batch_size)
print((kilobytes("VmHWM") - before) * 1024)
"""


def model(**settings: Any) -> Model:
    return Model.parse(SETTINGS | settings)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from Linux's /proc")
@pytest.mark.parametrize(
    ("settings", "batch_size", "documents"),
    [
        ({"vocab_size": 20_000, "context_length": 128}, 8, False),
        ({"dropout": 0.1, "positions": "learned", "mlp": "gelu"}, 8, False),
        ({"attention": {"type": "grouped_query", "n_heads": 4, "window": 32}}, 8, False),
        ({"d_model": 1024, "context_length": 32}, 1, False),
        ({"mlp": {"type": "mixture_of_experts", "n_experts": 4, "shared": "gelu"}}, 8, False),
        ({"context_length": 1024, "vocab_size": 200}, 8, True),
    ],
    ids=["logits", "dropout", "window", "weights", "experts", "documents"],
)
def test_the_peak_is_that_of_a_real_step(
    settings: dict[str, Any], batch_size: int, documents: bool
):
    given = json.dumps(SETTINGS | settings), str(batch_size), str(documents)
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_FOR_REAL, *given],
        capture_output=True,
        text=True,
        check=True,
        # large blocks go back to the system at once, so that gaps in the heap are not measured
        env={"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"},
    )
    predicted = training_memory(model(**settings), batch_size, documents=documents)
    assert predicted.peak == pytest.approx(int(done.stdout), rel=0.15)


def test_weights_gradients_and_optimizer_are_counted_exactly():
    memory = training_memory(model(), 2)
    weights = sum(p.numel() * 4 for p in model().build().parameters())
    assert (memory.weights, memory.gradients) == (weights, weights)
    assert memory.optimizer == pytest.approx(2 * weights, rel=1e-3)  # and a step count each
    assert memory.peak > memory.weights + memory.optimizer + memory.activations


def test_the_optimizer_is_the_callers():
    class PlainDescent:
        def __init__(self, gpt: nn.Module):
            self.sgd = torch.optim.SGD(gpt.parameters(), lr=0.1)

        def step(self) -> None:
            self.sgd.step()
            self.sgd.zero_grad()

    assert training_memory(model(), 2, PlainDescent).optimizer == 0


def test_accumulated_gradients_are_there_from_the_start():
    once, more = training_memory(model(), 2), training_memory(model(), 2, accumulate=True)
    assert more.activations == once.activations
    assert once.peak < more.peak <= once.peak + once.gradients


def test_rows_of_documents_take_masks():
    plain, packed = training_memory(model(), 8), training_memory(model(), 8, documents=True)
    a_mask = 8 * 256 * 256
    assert packed.activations > plain.activations + 4 * a_mask


def test_bf16_halves_what_products_keep():
    exact, half = training_memory(model(), 8), training_memory(model(), 8, bf16=True)
    assert 0.5 * exact.activations < half.activations < 0.9 * exact.activations


def test_activations_grow_with_the_batch_and_with_the_window_not_the_square_of_the_context():
    """What does not grow with it are weights that a product of several layers has joined."""
    settings = model(context_length=64, vocab_size=128)
    some, twice, again = (training_memory(settings, rows).activations for rows in (32, 64, 128))
    assert again - twice == pytest.approx(2 * (twice - some), rel=0.001)
    assert twice == pytest.approx(2 * some, rel=0.05)
    windowed = {"attention": {"type": "grouped_query", "n_heads": 4, "window": 32}}
    short = training_memory(model(**windowed, context_length=512), 1)
    long = training_memory(model(**windowed, context_length=2048), 1)
    assert long.activations < 4.2 * short.activations


def test_gpt2_xl_is_counted_without_its_memory():
    memory = training_memory(model(d_model=1600, n_layers=48, vocab_size=50257), 1)
    assert memory.peak > 20e9
