"""The plain set-up: GPT-2 in float32, eager, AdamW tensor by tensor, all logits in memory.

It is what a training script looks like before anybody has made it fast, and uses nothing of
gptlab's. B batch, T tokens, D d_model, H heads, V vocabulary.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

from gptlab.bench.contestants._rows import device_of, random_rows, tokens_of
from gptlab.bench.contestants._scoring import score


class PlainBlock(nn.Module):
    """Attention and MLP, each behind a norm, added to the stream."""

    def __init__(self, d_model: int, n_heads: int, dropout: float, bias: bool):
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.norm_1 = nn.LayerNorm(d_model, bias=bias)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=bias)
        self.out = nn.Linear(d_model, d_model, bias=bias)
        self.norm_2 = nn.LayerNorm(d_model, bias=bias)
        self.wide = nn.Linear(d_model, 4 * d_model, bias=bias)
        self.narrow = nn.Linear(4 * d_model, d_model, bias=bias)
        self.drop = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        qkv = self.qkv(self.norm_1(x_BTD)).view(B, T, 3, self.n_heads, D // self.n_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        y = scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        x_BTD = x_BTD + self.drop(self.out(y.transpose(1, 2).reshape(B, T, D)))
        return x_BTD + self.drop(self.narrow(gelu(self.wide(self.norm_2(x_BTD)))))


class PlainGPT2(nn.Module):
    """GPT-2, with its embedding as the head."""

    def __init__(self, job: dict[str, Any]):
        super().__init__()
        D, bias = job["d_model"], job["bias"]
        self.tokens = nn.Embedding(job["vocab_size"], D)
        self.positions = nn.Embedding(job["context_length"], D)
        self.drop = nn.Dropout(job["dropout"])
        blocks = [
            PlainBlock(D, job["n_heads"], job["dropout"], bias) for _ in range(job["n_layers"])
        ]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(D, bias=bias)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                ends = name.endswith(("out.weight", "narrow.weight"))
                nn.init.normal_(p, std=0.02 / (2 * len(blocks)) ** 0.5 if ends else 0.02)
            elif "bias" in name:
                nn.init.zeros_(p)

    def forward(self, x_BT: Tensor) -> Tensor:
        positions_T = torch.arange(x_BT.shape[1], device=x_BT.device)
        x_BTD = self.drop(self.tokens(x_BT) + self.positions(positions_T))
        return self.norm(self.blocks(x_BTD)) @ self.tokens.weight.T


def train(job: dict[str, Any], beat: Any) -> None:
    """Train it: batches cut row by row, gradients clipped, one optimizer step."""
    torch.manual_seed(job["seed"])
    device, tokens, T = device_of(job), tokens_of(job), job["context_length"]
    model = PlainGPT2(job).to(device)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim == 2]},
        {"params": [p for p in model.parameters() if p.ndim != 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups,
        job["lr"],
        tuple(job["betas"]),
        weight_decay=job["weight_decay"],
        foreach=False,
        fused=False,
    )
    beat.ready(
        job["rows"] * T,
        parameters=sum(p.numel() for p in model.parameters()),
        precision="float32",
        score=partial(score, model, lambda x_BT, y_BT: model(x_BT), job),
    )
    for _ in range(job["steps"]):
        ids_BT = random_rows(tokens, job["rows"], T + 1).to(device)
        logits_BTV = model(ids_BT[:, :-1])
        loss = cross_entropy(logits_BTV.flatten(0, 1), ids_BT[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), job["grad_clip"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        beat(loss.item)
