"""Gemma: GeGLU, norms around every branch, local layers beside global ones."""

from gptlab.model.gpt import Model
from gptlab.parts.attention.alternating import Alternating
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.head.tied import Tied
from gptlab.parts.initialization.gpt2 import GPT2
from gptlab.parts.mlp.geglu import GeGLU
from gptlab.parts.norm.rms_norm import RMSNorm
from gptlab.parts.positions.rotary import Rotary
from gptlab.parts.residual.sandwich import Sandwich
from gptlab.recipes._families import nano, published
from gptlab.train.recipe import Recipe

NORM = RMSNorm(eps=1e-6, offset=True)


def gemma2() -> Recipe:
    """Gemma 2 with 2 billion parameters: local and global layers in turn (arXiv:2408.00118).

    Scores capped at 50, logits at 30, norms before and after each branch.

        gptlab train gemma2 data.path=FOLDER
    """
    model = Model(
        vocab_size=256_000,
        context_length=8192,
        d_model=2304,
        n_layers=26,
        embedding_scale=48.0,
        positions=Rotary(),
        norm=NORM,
        attention=_local_and_global(n_heads=8, n_kv_heads=4, d_head=256, window=4096),
        mlp=GeGLU(d_ff=9216),
        residual=Sandwich(),
        head=Tied(softcap=30.0),
        initialization=GPT2(),
    )
    return published("gemma2", model)


def gemma2_nano() -> Recipe:
    """Gemma 2's parts at a size for CPUs: windows of 64 in every other layer.

    gptlab train gemma2_nano
    """
    attention = _local_and_global(n_heads=4, n_kv_heads=2, d_head=40, window=64)
    return nano(
        "gemma2_nano",
        gemma2().model,
        embedding_scale=160**0.5,
        attention=attention,
        mlp=GeGLU(),
    )


def gemma3() -> Recipe:
    """Gemma 3 with 1 billion parameters: five local layers to each global one (arXiv:2503.19786).

    Norms on queries and keys in place of Gemma 2's caps; global layers rotate a hundred times more
    slowly.

        gptlab train gemma3 data.path=FOLDER
    """
    model = gemma2().model.but(
        vocab_size=262_144,
        context_length=32_768,
        d_model=1152,
        embedding_scale=1152**0.5,
        attention=_five_to_one(n_heads=4, n_kv_heads=1, d_head=256, window=512),
        mlp=GeGLU(d_ff=6912),
        head=Tied(),
    )
    return published("gemma3", model)


def gemma3_nano() -> Recipe:
    """Gemma 3's parts at a size for CPUs: six layers, windows of 64 in five of them.

    gptlab train gemma3_nano
    """
    return nano(
        "gemma3_nano",
        gemma3().model,
        d_model=128,
        n_layers=6,
        embedding_scale=128**0.5,
        attention=_five_to_one(n_heads=4, n_kv_heads=1, d_head=32, window=64),
        mlp=GeGLU(),
    )


def _local_and_global(n_heads: int, n_kv_heads: int, d_head: int, window: int) -> Alternating:
    everywhere = GroupedQuery(n_heads=n_heads, n_kv_heads=n_kv_heads, d_head=d_head, softcap=50.0)
    return Alternating(of=(everywhere.but(window=window), everywhere))


def _five_to_one(n_heads: int, n_kv_heads: int, d_head: int, window: int) -> Alternating:
    local = GroupedQuery(
        n_heads=n_heads, n_kv_heads=n_kv_heads, d_head=d_head, window=window, qk_norm=NORM
    )
    everywhere = local.but(window=None, positions=Rotary(base=1_000_000))
    return Alternating(of=(local,) * 5 + (everywhere,))
