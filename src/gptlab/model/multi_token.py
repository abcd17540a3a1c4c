"""Multi-token prediction: in training, extra heads predict the tokens after the next one.

Head k of D predicts, at token i, token i + k + 1. What it reads is h^k, with h^0 what the main head
reads; embedding E and head are the model's own, each extra head has a block of its own.

    sequential, arXiv:2412.19437:    h^k = Block_k(W_k [norm(h^(k-1)); norm(E(token i + k))])
    independent, arXiv:2404.19737:   h^k = Block_k(h^0)

Training minimises loss + weight / D * (sum of the heads' losses). A target beyond the row, or in
another document, does not count. Evaluation and generation never compute any of this.

B batch, T tokens, D d_model.
"""

from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from gptlab.config import Config
from gptlab.model.block import Block
from gptlab.parts.context import Context
from gptlab.parts.head import LogitHead
from gptlab.parts.layers import Embedding, Linear
from gptlab.parts.needs import Needs

if TYPE_CHECKING:
    from gptlab.model.gpt import Model

UNCOUNTED = -100


class MultiToken(Config):
    """Extra heads for `depth` tokens after the next one, their mean loss multiplied by `weight`.

    `form`: `sequential`, each head reads the one before and the token that it knows by then;
    `independent`, each reads what the main head reads.
    """

    depth: Annotated[int, Field(gt=0, le=100)] = 1
    weight: PositiveFloat = 0.3
    form: Literal["sequential", "independent"] = "sequential"

    def build(self, model: "Model", needs: Needs) -> "FurtherTokens":
        """Build the heads, as layers after the last one."""
        if self.depth >= model.context_length:
            raise ValueError(
                f"model.multi_token.depth={self.depth} leaves no target in a text of "
                f"model.context_length={model.context_length}; make it less than that"
            )
        kind = {"sequential": SequentialHead, "independent": IndependentHead}[self.form]
        layers = range(model.n_layers, model.n_layers + self.depth)
        return FurtherTokens([kind(model, needs, layer) for layer in layers], self.weight)


class NextTokenOnly(nn.Module):
    def forward(
        self,
        x_BTD: Tensor,
        tokens_BT: Tensor,
        targets_BT: Tensor,
        context: Context,
        embedding: Embedding,
        head: LogitHead,
    ) -> dict[str, Tensor]:
        """Compute weighted losses by name; none here."""
        return {}


class FurtherTokens(NextTokenOnly):
    def __init__(self, heads: list["IndependentHead"], weight: float):
        super().__init__()
        self.heads, self.weight = nn.ModuleList(heads), weight

    def forward(
        self,
        x_BTD: Tensor,
        tokens_BT: Tensor,
        targets_BT: Tensor,
        context: Context,
        embedding: Embedding,
        head: LogitHead,
    ) -> dict[str, Tensor]:
        h_BTD, losses = x_BTD, []
        for k, extra in enumerate(self.heads, start=1):
            h_BTD = extra(x_BTD, h_BTD, embedding(tokens_BT.roll(-k, dims=1)), context)
            further_BT = ahead(targets_BT, k, context)
            total = head.loss(h_BTD, further_BT, embedding.weight, reduction="sum")
            losses.append(total / (further_BT != UNCOUNTED).sum().clamp(min=1))
        return {"multi_token": self.weight * torch.stack(losses).mean()}


class IndependentHead(nn.Module):
    def __init__(self, model: "Model", needs: Needs, layer: int):
        super().__init__()
        self.ends = model.residual.build_ends(needs)
        self.block = Block(model, needs, layer)

    def forward(self, x_BTD: Tensor, h_BTD: Tensor, e_BTD: Tensor, context: Context) -> Tensor:
        """Read what the main head reads, and nothing of the head before or the token ahead."""
        return self.pass_through(x_BTD, context)

    def pass_through(self, x_BTD: Tensor, context: Context) -> Tensor:
        return self.ends.close(self.block(self.ends.open(x_BTD), context))


class SequentialHead(IndependentHead):
    def __init__(self, model: "Model", needs: Needs, layer: int):
        super().__init__(model, needs, layer)
        D = needs.d_model
        self.norm, self.token_norm = needs.norm.build(D), needs.norm.build(D)
        self.join = Linear(2 * D, D, "input")

    def forward(self, x_BTD: Tensor, h_BTD: Tensor, e_BTD: Tensor, context: Context) -> Tensor:
        """Read the head before, joined with the token ahead."""
        both_BTD = torch.cat([self.norm(h_BTD), self.token_norm(e_BTD)], dim=-1)
        return self.pass_through(self.join(both_BTD), context)


def ahead(targets_BT: Tensor, k: int, context: Context) -> Tensor:
    """Give the target that is k tokens further, or what does not count where there is none.

    A place is of the document that its target is of, as in packed batches; a target of another one
    does not count anyway.
    """
    further_BT = targets_BT.roll(-k, dims=1)
    further_BT[:, -k:] = UNCOUNTED
    if context.documents_BT is None:
        return further_BT
    documents_BT = context.documents_BT
    return further_BT.masked_fill(documents_BT.roll(-k, dims=1) != documents_BT, UNCOUNTED)
