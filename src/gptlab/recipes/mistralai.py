"""Mistral's models: Llama's parts with a sliding window, or with a mixture of experts."""

from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.mlp.mixture_of_experts import MixtureOfExperts
from gptlab.parts.mlp.swiglu import SwiGLU
from gptlab.parts.positions.rotary import Rotary
from gptlab.recipes._families import nano, published
from gptlab.recipes.meta import llama3, transformer_pp
from gptlab.train.recipe import Recipe


def norm() -> Recipe:
    """GPT-2's size with what Llama and Mistral share ("NORM").

    RoPE, RMSNorm, SwiGLU, grouped queries (12 heads read 4), and a sliding window of 512 tokens,
    half the context, so that it binds.

        gptlab train norm data.path=FOLDER
        gptlab diff gpt2 norm
    """
    full = transformer_pp()
    attention = GroupedQuery(n_heads=12, n_kv_heads=4, window=512)
    return full.but(name="norm", model=full.model.but(attention=attention))


def mistral() -> Recipe:
    """Mistral 7B: Llama's parts and a sliding window of 4,096 tokens (arXiv:2310.06825).

    gptlab train mistral data.path=FOLDER
    """
    model = llama3().model.but(
        vocab_size=32_000,
        context_length=32_768,
        positions=Rotary(),
        attention=GroupedQuery(n_heads=32, n_kv_heads=8, window=4096),
    )
    return published("mistral", model)


def mistral_nano() -> Recipe:
    """Mistral's parts at a size for CPUs: a window of 64 of its 256 tokens.

    gptlab train mistral_nano
    """
    attention = GroupedQuery(n_heads=8, n_kv_heads=2, window=64)
    return nano("mistral_nano", mistral().model, attention=attention, mlp=SwiGLU())


def mixtral() -> Recipe:
    """Mixtral 8x7B: 47 billion parameters, of which a token uses 13 (arXiv:2401.04088).

    Mistral's layers without the window, each with 8 experts, of which two compute a token.

        gptlab train mixtral data.path=FOLDER
    """
    model = mistral().model.but(
        positions=Rotary(base=1_000_000),
        attention=GroupedQuery(n_heads=32, n_kv_heads=8),
        mlp=MixtureOfExperts(expert=SwiGLU(d_ff=14_336)),
    )
    return published("mixtral", model)


def mixtral_nano() -> Recipe:
    """Mixtral's parts at a size for CPUs: two of 8 experts of 128.

    gptlab train mixtral_nano
    """
    return nano(
        "mixtral_nano",
        mixtral().model,
        attention=GroupedQuery(n_heads=8, n_kv_heads=2),
        mlp=MixtureOfExperts(expert=SwiGLU(d_ff=128)),
    )
