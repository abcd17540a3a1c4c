"""The small classics: character models of Shakespeare that fit on a laptop."""

from gptlab.data.sources.shakespeare import Shakespeare
from gptlab.model.gpt import Model
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.head.tied import Tied
from gptlab.parts.head.untied import Untied
from gptlab.parts.initialization.gpt2 import GPT2
from gptlab.parts.mlp.gelu import Gelu
from gptlab.parts.norm.layer_norm import LayerNorm
from gptlab.parts.positions.learned import Learned
from gptlab.parts.residual.pre_norm import PreNorm
from gptlab.tokenizer.char import Char
from gptlab.train.optimizers.adamw import AdamW
from gptlab.train.recipe import Recipe, Train
from gptlab.train.schedules.constant import Constant
from gptlab.train.schedules.cosine import Cosine


def shakespeare() -> Recipe:
    """The well-known CPU set-up for tiny Shakespeare: 0.8 million parameters, a minute or two.

    The sizes are those that nanoGPT's README gives for a laptop's CPU: 2,000 steps of 12 rows of 64
    characters, no dropout, GPT-2's parts without biases. The learning rate is twice the 1e-3 given
    there and falls to zero, which lowers the loss by about 0.08 (docs/log.md).

        gptlab train shakespeare
        gptlab train shakespeare data.path=input.txt
    """
    return Recipe(
        name="shakespeare",
        model=Model(
            context_length=64,
            d_model=128,
            n_layers=4,
            positions=Learned(),
            norm=LayerNorm(bias=False),
            attention=GroupedQuery(n_heads=4),
            mlp=Gelu(approximate="none"),
            residual=PreNorm(),
            head=Tied(),
            initialization=GPT2(),
        ),
        tokenizer=Char(),
        data=Shakespeare(),
        optimizer=AdamW(lr=2e-3, beta2=0.99),
        schedule=Cosine(warmup=0.05, final=0.0),
        train=Train(steps=2_000, batch_tokens=768),
    )


def baby() -> Recipe:
    """A baby GPT for tiny Shakespeare: 10.7 million parameters, for one GPU or a patient CPU.

    The sizes are those that nanoGPT's README gives for a GPU. It begins to memorise near the middle
    of the run: the best checkpoint is kept.

        gptlab train baby
    """
    small = shakespeare()
    return small.but(
        name="baby",
        model=small.model.but(
            context_length=256,
            d_model=384,
            n_layers=6,
            dropout=0.2,
            attention=GroupedQuery(n_heads=6),
        ),
        optimizer=AdamW(lr=1e-3, beta2=0.99),
        schedule=Cosine(warmup=0.02),
        train=Train(steps=5_000, batch_tokens=16_384),
    )


def chargpt() -> Recipe:
    """The classic character-level set-up of minGPT: 6 layers, 6 heads, 192 wide, context 128.

    Made for asking what grouped queries and rotary positions change:

        gptlab train chargpt model.attention.n_kv_heads=2 model.positions=rotary
    """
    return Recipe(
        name="chargpt",
        model=Model(
            context_length=128,
            d_model=192,
            n_layers=6,
            dropout=0.1,
            positions=Learned(),
            norm=LayerNorm(),
            attention=GroupedQuery(n_heads=6, bias=True),
            mlp=Gelu(bias=True),
            residual=PreNorm(),
            head=Untied(),
            initialization=GPT2(),
        ),
        tokenizer=Char(),
        data=Shakespeare(),
        optimizer=AdamW(lr=5e-4),
        schedule=Constant(),
        train=Train(steps=3_000, batch_tokens=8_192),
    )
