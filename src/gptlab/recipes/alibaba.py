"""Qwen: Llama's parts and norms on queries and keys."""

from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.head.tied import Tied
from gptlab.parts.mlp.swiglu import SwiGLU
from gptlab.parts.norm.rms_norm import RMSNorm
from gptlab.parts.positions.rotary import Rotary
from gptlab.recipes._families import nano, published
from gptlab.recipes.meta import llama3
from gptlab.train.recipe import Recipe


def qwen3() -> Recipe:
    """Qwen 3 with 0.6 billion parameters: a norm on every head's queries and keys, wide heads.

    arXiv:2505.09388. Its 16 heads of 128 are twice as wide together as the model.

        gptlab train qwen3 data.path=FOLDER
    """
    norm = RMSNorm(eps=1e-6)
    model = llama3().model.but(
        vocab_size=151_936,
        context_length=40_960,
        d_model=1024,
        n_layers=28,
        positions=Rotary(base=1_000_000),
        norm=norm,
        attention=GroupedQuery(n_heads=16, n_kv_heads=8, d_head=128, qk_norm=norm),
        mlp=SwiGLU(d_ff=3072),
        head=Tied(),
    )
    return published("qwen3", model)


def qwen3_nano() -> Recipe:
    """Qwen 3's parts at a size for CPUs: 4 heads of 64 for a model of 160.

    gptlab train qwen3_nano
    """
    attention = GroupedQuery(n_heads=4, n_kv_heads=2, d_head=64, qk_norm=RMSNorm(eps=1e-6))
    return nano("qwen3_nano", qwen3().model, attention=attention, mlp=SwiGLU())
