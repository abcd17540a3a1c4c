"""Mistral-like models (arXiv:2310.06825): Llama's parts and a sliding window."""

from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.recipes.meta import llama_nano, transformer_pp
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


def mistral_nano() -> Recipe:
    """Mistral's parts at a size for CPUs: `llama_nano` with a window of 64 of its 256 tokens.

    gptlab train mistral_nano
    """
    nano = llama_nano()
    attention = GroupedQuery(n_heads=8, n_kv_heads=2, window=64)
    return nano.but(name="mistral_nano", model=nano.model.but(attention=attention))
