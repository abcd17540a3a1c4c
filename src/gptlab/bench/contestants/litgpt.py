"""LitGPT, in an environment of its own: its GPT, trained the way its `pretrain` trains.

That is: Fabric with its default precision, torch.compile, AdamW, its chunked cross-entropy. Its GPT
has rotary positions; all else is GPT-2's, with tied embeddings.
"""

from functools import partial
from typing import Any

import torch
from lightning.fabric import Fabric  # pyright: ignore[reportMissingImports]
from litgpt.config import Config  # pyright: ignore[reportMissingImports]
from litgpt.model import GPT  # pyright: ignore[reportMissingImports]
from litgpt.pretrain import initialize_weights  # pyright: ignore[reportMissingImports]
from litgpt.utils import (  # pyright: ignore[reportMissingImports]
    chunked_cross_entropy,
    get_default_supported_precision,
)

from gptlab.bench.contestants._rows import device_of, random_rows, tokens_of
from gptlab.bench.contestants._scoring import score


def train(job: dict[str, Any], beat: Any) -> None:
    """Train it."""
    device, tokens, T = device_of(job), tokens_of(job), job["context_length"]
    precision = get_default_supported_precision(training=True)
    fabric = Fabric(accelerator=device.type, devices=1, precision=precision)
    fabric.seed_everything(job["seed"], verbose=False)
    config = Config(
        block_size=T,
        n_layer=job["n_layers"],
        n_embd=job["d_model"],
        n_head=job["n_heads"],
        vocab_size=job["vocab_size"],
        padded_vocab_size=job["vocab_size"],
        parallel_residual=False,
        bias=job["bias"],
        attn_bias=job["bias"],
    )
    gpt = GPT(config)
    initialize_weights(fabric, gpt, config.n_layer, config.n_embd)
    gpt.lm_head.weight = gpt.transformer.wte.weight
    model = fabric.setup(torch.compile(gpt))
    rate, decay = job["lr"], job["weight_decay"]
    fused = fabric.device.type == "cuda"
    adamw = torch.optim.AdamW(
        model.parameters(), rate, tuple(job["betas"]), weight_decay=decay, fused=fused
    )
    optimizer: Any = fabric.setup_optimizers(adamw)
    beat.ready(
        job["rows"] * T,
        parameters=sum(p.numel() for p in model.parameters()),
        precision=precision,
        compiled=True,
        score=partial(score, model, lambda x_BT, y_BT: gpt(x_BT), job),
    )
    for _ in range(job["steps"]):
        ids_BT = fabric.to_device(random_rows(tokens, job["rows"], T + 1))
        loss = chunked_cross_entropy(model(ids_BT[:, :-1]), ids_BT[:, 1:].contiguous())
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=job["grad_clip"])
        optimizer.step()
        optimizer.zero_grad()
        beat(loss.item)
