"""SmolLM: Llama's parts, without positions in every fourth layer."""

from gptlab.parts.attention.alternating import Alternating
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.head.tied import Tied
from gptlab.parts.mlp.swiglu import SwiGLU
from gptlab.parts.norm.rms_norm import RMSNorm
from gptlab.parts.positions.none import NoPositions
from gptlab.parts.positions.rotary import Rotary
from gptlab.recipes._families import nano, published
from gptlab.recipes.meta import llama3
from gptlab.train.recipe import Recipe


def smollm3() -> Recipe:
    """SmolLM 3 with 3 billion parameters: every fourth layer has no positions (arXiv:2305.19466).

    gptlab train smollm3 data.path=FOLDER
    """
    model = llama3().model.but(
        context_length=65_536,
        d_model=2048,
        n_layers=36,
        positions=Rotary(base=5_000_000),
        norm=RMSNorm(eps=1e-6),
        attention=_three_to_one(GroupedQuery(n_heads=16, n_kv_heads=4)),
        mlp=SwiGLU(d_ff=11_008),
        head=Tied(),
    )
    return published("smollm3", model)


def smollm3_nano() -> Recipe:
    """SmolLM 3's parts at a size for CPUs: the last of four layers has no positions.

    gptlab train smollm3_nano
    """
    attention = _three_to_one(GroupedQuery(n_heads=8, n_kv_heads=2))
    return nano("smollm3_nano", smollm3().model, attention=attention, mlp=SwiGLU())


def _three_to_one(attention: GroupedQuery) -> Alternating:
    return Alternating(of=(attention,) * 3 + (attention.but(positions=NoPositions()),))
