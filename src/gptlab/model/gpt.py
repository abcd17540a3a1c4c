"""The GPT: embed tokens, pass them through blocks, score the next token. Read this page first.

Every part is chosen in `Model`; this file only says how the parts fit together.

B batch, T tokens, D d_model, V vocabulary.
"""

from typing import Annotated, Any

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from gptlab.config import Config
from gptlab.kernels.cross_entropy import scaled
from gptlab.kernels.places import Places
from gptlab.model.block import Block
from gptlab.model.legality import check_pairs, check_use
from gptlab.model.multi_token import MultiToken, NextTokenOnly
from gptlab.parts.attention import Attention, Mixer
from gptlab.parts.context import Context
from gptlab.parts.head import Head
from gptlab.parts.initialization import Initialization
from gptlab.parts.layers import AfterStep, Dropout, Embedding
from gptlab.parts.mlp import MLP
from gptlab.parts.needs import Needs
from gptlab.parts.norm import Norm
from gptlab.parts.positions import Positions
from gptlab.parts.residual import Residual


class Model(Config):
    """The architecture: sizes, and a variant for each slot.

    `vocab_size`: null means as many as the tokenizer has. `dropout` acts on the embedding, the
    attention weights and each branch's output, in training only. Token embeddings are multiplied by
    `embedding_scale` (Gemma, Granite) and normed by `embedding_norm` (BLOOM), where there is one.
    `multi_token`: extra heads that predict further tokens in training; null: none.
    """

    vocab_size: Annotated[int, Field(gt=0, le=10_000_000)] | None = None
    context_length: Annotated[int, Field(gt=0, le=10_000_000)] = 1024
    d_model: Annotated[int, Field(gt=0, le=100_000)] = 768
    n_layers: Annotated[int, Field(gt=0, le=1_000)] = 12
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    embedding_scale: PositiveFloat | None = None
    embedding_norm: Norm | None = None
    positions: Positions
    norm: Norm
    attention: Attention
    mlp: MLP
    residual: Residual
    head: Head
    initialization: Initialization
    multi_token: MultiToken | None = None

    def build(self, seed: int = 0) -> "GPT":
        """Build the model with its initial values. Raises ValueError for parts that do not fit."""
        gpt = GPT(self)
        if gpt.embedding.weight.device.type != "meta":
            self.initialization.apply(gpt, seed)
        return gpt


class GPT(nn.Module):
    """A language model made of parts."""

    def __init__(self, model: Model):
        super().__init__()
        if model.vocab_size is None:
            raise ValueError("model.vocab_size=null: the tokenizer's size must be filled in first")
        check_pairs(model)
        self.context_length = model.context_length
        self.embedding = Embedding(model.vocab_size, model.d_model, role="embedding")
        self.embedding_scale = model.embedding_scale or 1.0
        norm = model.embedding_norm
        self.embedding_norm = norm.build(model.d_model) if norm else nn.Identity()
        self.positions = model.positions.build(model.d_model, model.context_length)
        needs = Needs(
            model.d_model,
            model.n_layers,
            model.context_length,
            model.dropout,
            model.norm,
            self.positions,
        )
        self.dropout = Dropout(model.dropout)
        self.ends = model.residual.build_ends(needs)
        self.blocks = nn.ModuleList(Block(model, needs, layer) for layer in range(model.n_layers))
        check_use(model, needs)
        self.head = model.head.build(model.d_model, model.vocab_size)
        extra = model.multi_token
        self.multi_token = extra.build(model, needs) if extra else NextTokenOnly()
        self.head.scale *= model.initialization.logit_factor(model.d_model)
        model.initialization.assign(self, self.blocks, model.d_model)
        self.hold = model.initialization.hold
        self.modules_after_step = [each for each in self.modules() if isinstance(each, AfterStep)]

    def forward(
        self, tokens_BT: Tensor, places: Places | None = None, caches: list[Any] | None = None
    ) -> Tensor:
        """Compute logits_BTV. With caches, `tokens_BT` continue what the caches have read."""
        return self.head(self.read(tokens_BT, places, caches), self.embedding.weight)

    def loss(
        self,
        tokens_BT: Tensor,
        targets_BT: Tensor,
        reduction: str = "mean",
        places: Places | None = None,
    ) -> Tensor:
        """Compute the cross-entropy of the targets, in nats per token; -100 does not count."""
        x_BTD = self.read(tokens_BT, places)
        return self.head.loss(x_BTD, targets_BT, self.embedding.weight, reduction)

    def losses(
        self, tokens_BT: Tensor, targets_BT: Tensor, places: Places | None = None
    ) -> dict[str, Tensor]:
        """Compute what training minimises the sum of: `loss`, and auxiliary losses by name."""
        context = self.begin(tokens_BT, places)
        context.losses = {}
        embedding_VD = self.embedding.for_head()
        x_BTD = self.pass_through(tokens_BT, context)
        losses = self.head.losses(x_BTD, targets_BT, embedding_VD)
        further = self.multi_token(x_BTD, tokens_BT, targets_BT, context, self.embedding, self.head)
        return losses | further | context.losses

    def read(
        self, tokens_BT: Tensor, places: Places | None = None, caches: list[Any] | None = None
    ) -> Tensor:
        """Compute x_BTD, what the head reads."""
        return self.pass_through(tokens_BT, self.begin(tokens_BT, places, caches))

    def begin(
        self, tokens_BT: Tensor, places: Places | None = None, caches: list[Any] | None = None
    ) -> Context:
        """Begin a pass; without places, every row is one text from its start."""
        return Context(places or Places.counted(0, tokens_BT.shape[1], tokens_BT.device), caches)

    def pass_through(self, tokens_BT: Tensor, context: Context) -> Tensor:
        is_trained = context.losses is not None
        x_BTD = self.embedding(tokens_BT, head_follows=is_trained and self.head.is_tied)
        x_BTD = self.embedding_norm(scaled(x_BTD, self.embedding_scale))
        stream = self.ends.open(self.dropout(self.positions.embed(x_BTD, context)))
        for block in self.blocks:
            stream = block(stream, context)
        return self.ends.close(stream)

    @torch.no_grad()
    def after_step(self) -> None:
        """Do what parts want done after every step of the optimizer."""
        self.hold(self)
        for module in self.modules_after_step:
            module.after_step()

    def forget_step(self) -> None:
        """Undo what passes have left behind since the last step: they are taken again."""
        self.zero_grad(set_to_none=True)
        for module in self.modules_after_step:
            module.forget_step()

    def new_caches(self, capacity: int) -> list[Any]:
        """Make an empty cache per layer, for texts of at most this many tokens."""
        return [mixer.new_cache(capacity) for mixer in self.mixers()]

    def mixers(self) -> list[Mixer]:
        """The attention module of every layer, first to last."""
        return [module for module in self.blocks.modules() if isinstance(module, Mixer)]
