"""Command R: both branches read one norm, and global layers know no positions."""

from gptlab.model.gpt import Model
from gptlab.parts.attention.alternating import Alternating
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.head.tied import Tied
from gptlab.parts.initialization.gpt2 import GPT2
from gptlab.parts.mlp.swiglu import SwiGLU
from gptlab.parts.norm.layer_norm import LayerNorm
from gptlab.parts.positions.none import NoPositions
from gptlab.parts.positions.rotary import Rotary
from gptlab.parts.residual.parallel import Parallel
from gptlab.recipes._families import nano, published
from gptlab.train.recipe import Recipe


def cohere2() -> Recipe:
    """Command R7B: attention and MLP side by side, three local layers to each global one.

    https://huggingface.co/CohereForAI/c4ai-command-r7b-12-2024. Local layers rotate neighbouring
    dimensions, global ones have no positions; norms have no biases.

        gptlab train cohere2 data.path=FOLDER
    """
    model = Model(
        vocab_size=256_000,
        context_length=8192,
        d_model=4096,
        n_layers=32,
        positions=Rotary(base=50_000, layout="interleaved"),
        norm=LayerNorm(bias=False),
        attention=_three_to_one(GroupedQuery(n_heads=32, n_kv_heads=8, window=4096)),
        mlp=SwiGLU(d_ff=14_336),
        residual=Parallel(),
        head=Tied(scale=0.25),
        initialization=GPT2(),
    )
    return published("cohere2", model)


def cohere2_nano() -> Recipe:
    """Command R7B's parts at a size for CPUs: windows of 64 in three of four layers.

    gptlab train cohere2_nano
    """
    attention = _three_to_one(GroupedQuery(n_heads=8, n_kv_heads=2, window=64))
    return nano(
        "cohere2_nano", cohere2().model, attention=attention, mlp=SwiGLU(), head=Tied(scale=1.0)
    )


def _three_to_one(local: GroupedQuery) -> Alternating:
    everywhere = local.but(window=None, positions=NoPositions())
    return Alternating(of=(local,) * 3 + (everywhere,))
