"""Granite: Llama's parts, with multipliers that keep activations in scale at any width."""

from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.head.tied import Tied
from gptlab.parts.mlp.swiglu import SwiGLU
from gptlab.parts.positions.rotary import Rotary
from gptlab.parts.residual.scaled import Scaled
from gptlab.recipes._families import nano, published
from gptlab.recipes.meta import llama3
from gptlab.train.recipe import Recipe


def granite() -> Recipe:
    """Granite 3.0 with 2 billion parameters: embeddings, scores, branches and logits are scaled.

    https://huggingface.co/ibm-granite/granite-3.0-2b-base

        gptlab train granite data.path=FOLDER
    """
    model = llama3().model.but(
        vocab_size=49_155,
        context_length=4096,
        d_model=2048,
        n_layers=40,
        embedding_scale=12.0,
        positions=Rotary(),
        attention=GroupedQuery(n_heads=32, n_kv_heads=8, scale=1 / 64),
        mlp=SwiGLU(d_ff=8192),
        residual=Scaled(scale=0.22, learned=None),
        head=Tied(scale=1 / 8),
    )
    return published("granite", model)


def granite_nano() -> Recipe:
    """Granite's parts at a size for CPUs.

    gptlab train granite_nano
    """
    attention = GroupedQuery(n_heads=5, scale=1 / 32)
    return nano("granite_nano", granite().model, attention=attention, mlp=SwiGLU())
