"""x-transformers: its decoder with flash attention, trained by a plain loop with torch's AdamW.

As in its own example, a row of T tokens is read whole and T - 1 of them are predicted.
"""

from functools import partial
from typing import Any

import torch
from x_transformers import (  # pyright: ignore
    AutoregressiveWrapper,
    Decoder,
    TransformerWrapper,
)

from gptlab.bench.contestants._rows import device_of, random_rows, tokens_of
from gptlab.bench.contestants._scoring import score


def train(job: dict[str, Any], beat: Any) -> None:
    """Train in float32, as its own example does."""
    torch.manual_seed(job["seed"])
    device, tokens, T = device_of(job), tokens_of(job), job["context_length"]
    decoder = TransformerWrapper(
        num_tokens=job["vocab_size"],
        max_seq_len=T,
        emb_dropout=job["dropout"],
        tie_embedding=True,
        attn_layers=Decoder(
            dim=job["d_model"],
            depth=job["n_layers"],
            heads=job["n_heads"],
            attn_dim_head=job["d_model"] // job["n_heads"],
            attn_flash=True,
            attn_dropout=job["dropout"],
            ff_dropout=job["dropout"],
        ),
    )
    model = AutoregressiveWrapper(decoder).to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), job["lr"], tuple(job["betas"]), weight_decay=job["weight_decay"]
    )
    beat.ready(
        job["rows"] * T,
        parameters=sum(p.numel() for p in model.parameters()),
        precision="float32",
        score=partial(score, model, lambda x_BT, y_BT: decoder(x_BT), job),
    )
    for _ in range(job["steps"]):
        loss = model(random_rows(tokens, job["rows"], T).to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), job["grad_clip"])
        optimizer.step()
        optimizer.zero_grad()
        beat(loss.item)
