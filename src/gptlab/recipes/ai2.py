"""OLMo: norms where branches end, and over the full width of queries and keys."""

from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.mlp.swiglu import SwiGLU
from gptlab.parts.norm.rms_norm import RMSNorm
from gptlab.parts.residual.branch_norm import BranchNorm
from gptlab.recipes._families import nano, published
from gptlab.recipes.meta import llama3
from gptlab.train.recipe import Recipe

NORM = RMSNorm(eps=1e-6)


def olmo2() -> Recipe:
    """OLMo 2 with 1 billion parameters: what a branch adds is normed, not what it reads.

    arXiv:2501.00656. Norms of queries and keys go over all heads at once.

        gptlab train olmo2 data.path=FOLDER
    """
    model = llama3().model.but(
        vocab_size=100_352,
        context_length=4096,
        d_model=2048,
        n_layers=16,
        norm=NORM,
        attention=GroupedQuery(n_heads=16, qk_norm=NORM, qk_norm_over="width"),
        mlp=SwiGLU(d_ff=8192),
        residual=BranchNorm(),
    )
    return published("olmo2", model)


def olmo2_nano() -> Recipe:
    """OLMo 2's parts at a size for CPUs.

    gptlab train olmo2_nano
    """
    attention = GroupedQuery(n_heads=8, qk_norm=NORM, qk_norm_over="width")
    return nano("olmo2_nano", olmo2().model, attention=attention, mlp=SwiGLU())
