"""Speedruns: nanochat, the record holders of modded-nanogpt, and tiny Shakespeare in seconds."""

from gptlab.model.gpt import Model
from gptlab.parts.attention.alternating import Alternating
from gptlab.parts.attention.convolution import Convolution
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.head.untied import Untied
from gptlab.parts.initialization.zero_output import ZeroOutput
from gptlab.parts.mlp.relu_squared import ReluSquared
from gptlab.parts.mlp.swiglu import SwiGLU
from gptlab.parts.norm.rms_norm import RMSNorm
from gptlab.parts.positions.rotary import Rotary
from gptlab.parts.residual.initial_mix import InitialMix
from gptlab.parts.residual.pre_norm import PreNorm
from gptlab.recipes._families import nano, published
from gptlab.recipes.classics import shakespeare
from gptlab.recipes.meta import llama3
from gptlab.train.optimizers.muon import Muon
from gptlab.train.recipe import Recipe, Train
from gptlab.train.schedules.wsd import WSD

NORM = RMSNorm(eps=1e-6, affine=False)


def nanochat() -> Recipe:
    """Nanochat's model of depth 20, as Hugging Face has it: norms without gains, and ReLU squared.

    Queries and keys are normed after the rotation, embeddings too, logits capped at 15; Muon.
    https://github.com/karpathy/nanochat

        gptlab train nanochat data.path=FOLDER
    """
    model = llama3().model.but(
        vocab_size=65_536,
        context_length=2048,
        d_model=1280,
        n_layers=20,
        embedding_norm=NORM,
        positions=Rotary(),
        norm=NORM,
        attention=GroupedQuery(n_heads=10, qk_norm=NORM, qk_norm_after_rotation=True),
        mlp=ReluSquared(),
        head=Untied(softcap=15.0),
        initialization=ZeroOutput(),
    )
    return _with_muon(published("nanochat", model), lr=2e-3)


def nanochat_nano() -> Recipe:
    """Nanochat's parts at a size for CPUs.

    gptlab train nanochat_nano
    """
    attention = GroupedQuery(n_heads=5, qk_norm=NORM, qk_norm_after_rotation=True)
    return _with_muon(nano("nanochat_nano", nanochat().model, attention=attention), lr=5e-3)


def modded() -> Recipe:
    """GPT-2's size with what the records of modded-nanogpt share; Muon.

    RoPE, norms on queries and keys, ReLU squared, the first layer's values and the embedding mixed
    into later layers, outputs that start at zero, an untied head with capped logits.
    https://github.com/KellerJordan/modded-nanogpt

        gptlab train modded data.path=FOLDER
    """
    model = nanochat().model.but(
        vocab_size=50_304,
        context_length=1024,
        d_model=768,
        n_layers=12,
        attention=_mixing_values(n_heads=6),
        residual=InitialMix(),
    )
    return _with_muon(published("modded", model), lr=2e-3)


def modded_nano() -> Recipe:
    """The same parts at a size for CPUs.

    gptlab train modded_nano
    """
    model = modded().model
    return _with_muon(nano("modded_nano", model, attention=_mixing_values(n_heads=5)), lr=5e-3)


def shakespeare_speedrun() -> Recipe:
    """Tiny Shakespeare to the loss of the well-known CPU set-up, with its 0.8 million parameters.

    A twelfth of its text seen once, in seconds. What bought it (docs/log.md has what failed):
    a convolution instead of attention in the first layers, which hands the MLP the last few
    characters; Muon, with a short memory since the run is short, and batches twice as large as
    usual; SwiGLU; rotary positions; three layers. AdamW ends higher by 0.18, attention everywhere
    by 0.34. A run is over too soon for initial values, a tied head, softcaps, gates, weight decay
    or QK-norm to make a difference.

        gptlab train shakespeare_speedrun
    """
    attention = GroupedQuery(n_heads=2, qk_norm=NORM)
    return shakespeare().but(
        name="shakespeare_speedrun",
        model=Model(
            context_length=64,
            d_model=160,
            n_layers=3,
            positions=Rotary(),
            norm=NORM,
            attention=Alternating(of=(Convolution(width=4), Convolution(width=4), attention)),
            mlp=SwiGLU(d_ff=472),
            residual=PreNorm(),
            head=Untied(),
            initialization=ZeroOutput(scale=0.05),
        ),
        optimizer=Muon(
            lr=0.03,
            adamw_lr=0.014,
            momentum=0.75,
            newton_schulz_steps=4,
            beta1=0.7,
            weight_decay=0.0,
        ),
        schedule=WSD(decay=1.0),
        train=Train(
            steps=54,
            batch_tokens=1536,
            grad_clip=None,
            evaluate_every=None,
            checkpoint_every=None,
            sample_tokens=0,
            tensorboard=False,
        ),
    )


def _mixing_values(n_heads: int) -> GroupedQuery:
    return GroupedQuery(
        n_heads=n_heads, qk_norm=NORM, qk_norm_after_rotation=True, value_residual=True
    )


def _with_muon(recipe: Recipe, lr: float) -> Recipe:
    return recipe.but(optimizer=Muon(lr=lr), schedule=WSD(warmup=0.01, decay=0.4))
