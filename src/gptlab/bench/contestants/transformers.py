"""Hugging Face as shipped: the Trainer with GPT2LMHeadModel, and `generate`.

Settings are the library's own but for the sizes, the length of the run, and that it reports to
nobody and saves nothing. GPT-2 has biases there, whatever the recipe has.
"""

from functools import partial
from typing import Any

import accelerate  # pyright: ignore[reportMissingImports]  # noqa: F401 - the Trainer wants it
import numpy as np
import torch
import transformers
from torch import Tensor
from torch.utils.data import Dataset

from gptlab.bench.contestants._rows import device_of, tokens_of
from gptlab.bench.contestants._scoring import score


class Windows(Dataset[dict[str, Tensor]]):
    """The training text in windows that follow one another."""

    def __init__(self, tokens: np.ndarray, T: int):
        self.tokens, self.T = tokens, T

    def __len__(self) -> int:
        return len(self.tokens) // self.T

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        window = self.tokens[number * self.T : (number + 1) * self.T]
        ids_T = torch.from_numpy(window.astype(np.int64))
        return {"input_ids": ids_T, "labels": ids_T}


class Paced(transformers.Trainer):
    """The Trainer, which remembers the loss of its last step."""

    def training_step(self, *arguments: Any, **options: Any) -> Tensor:
        self.last_loss = super().training_step(*arguments, **options)
        return self.last_loss


class Pace(transformers.TrainerCallback):
    """Waits, after a step, while others have their turn."""

    def __init__(self, beat: Any):
        self.beat = beat
        self.trainer: Any = None

    def on_step_end(self, *arguments: Any, **options: Any) -> None:
        """Be paced."""
        self.beat(lambda: self.trainer.last_loss.item())


def train(job: dict[str, Any], beat: Any) -> None:
    """Train with the Trainer."""
    model = build(job)
    settings = transformers.TrainingArguments(
        output_dir=job["folder"],
        per_device_train_batch_size=job["rows"],
        max_steps=job["steps"],
        learning_rate=job["lr"],
        weight_decay=job["weight_decay"],
        seed=job["seed"],
        report_to="none",
        save_strategy="no",
        use_cpu=device_of(job).type == "cpu",
        bf16=job.get("bf16", False),
    )
    pace = Pace(beat)
    pace.trainer = Paced(
        model, settings, train_dataset=Windows(tokens_of(job), job["context_length"]),
        callbacks=[pace],
    )  # fmt: skip
    beat.ready(
        job["rows"] * job["context_length"],
        parameters=model.num_parameters(),
        precision="bf16" if settings.bf16 else "float32",
        version=transformers.__version__,
        score=partial(score, model, lambda x_BT, y_BT: model(x_BT).logits, job),
    )
    pace.trainer.train()


def generate(job: dict[str, Any], beat: Any) -> None:
    """Write with `generate`, at the same temperature among as many candidates."""
    model = build(job).to(device_of(job)).eval()
    if job.get("bf16"):
        model = model.to(torch.bfloat16)
    n, length, rows = job["prompt"], job["tokens"], job["rows"]
    prompt_BT = torch.ones(rows, n, dtype=torch.long, device=model.device)
    options = {"cache_implementation": "static"} if job.get("static") else {}
    beat.ready(
        length * rows,
        parameters=model.num_parameters(),
        precision="bf16" if job.get("bf16") else "float32",
        version=transformers.__version__,
    )
    while True:
        ids_BT = model.generate(
            prompt_BT,
            attention_mask=torch.ones_like(prompt_BT),
            max_new_tokens=length,
            do_sample=True,
            temperature=0.8,
            top_k=50,
            **options,
        )
        assert ids_BT.shape == (rows, n + length)
        beat()


def build(job: dict[str, Any]) -> Any:
    """Build GPT-2 in the sizes asked for; no token ends a text."""
    torch.manual_seed(job["seed"])
    transformers.logging.set_verbosity_error()
    config = transformers.GPT2Config(
        vocab_size=job["vocab_size"],
        n_positions=job["context_length"],
        n_embd=job["d_model"],
        n_layer=job["n_layers"],
        n_head=job["n_heads"],
        resid_pdrop=job["dropout"],
        embd_pdrop=job["dropout"],
        attn_pdrop=job["dropout"],
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)
