"""Llama-like models: rotary positions, RMSNorm, a SiLU-gated MLP, no biases."""

from gptlab.data.sources.python import Python
from gptlab.model.gpt import Model
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.head.tied import Tied
from gptlab.parts.head.untied import Untied
from gptlab.parts.initialization.gpt2 import GPT2
from gptlab.parts.mlp.swiglu import SwiGLU
from gptlab.parts.norm.rms_norm import RMSNorm
from gptlab.parts.positions.rotary import Rotary
from gptlab.parts.residual.pre_norm import PreNorm
from gptlab.tokenizer.bpe import BPE
from gptlab.train.optimizers.adamw import AdamW
from gptlab.train.recipe import Recipe, Train
from gptlab.train.schedules.cosine import Cosine


def transformer_pp() -> Recipe:
    """Transformer++ at GPT-2's size: RoPE, RMSNorm, SiLU-gated MLP, full heads (arXiv:2312.00752).

    The gated MLP is 8/3 wide, so that the parameters stay those of GPT-2 to within 1%.

        gptlab train transformer_pp data.path=FOLDER
    """
    return Recipe(
        name="transformer_pp",
        model=Model(
            vocab_size=50_257,
            context_length=1024,
            d_model=768,
            n_layers=12,
            positions=Rotary(),
            norm=RMSNorm(),
            attention=GroupedQuery(n_heads=12),
            mlp=SwiGLU(),
            residual=PreNorm(),
            head=Tied(),
            initialization=GPT2(),
        ),
        tokenizer=BPE(vocab_size=50_257),
        data=Python(val_fraction=0.01),
        optimizer=AdamW(lr=6e-4),
        schedule=Cosine(warmup=0.04),
        train=Train(steps=19_073, batch_tokens=524_288),
    )


def llama_nano() -> Recipe:
    """Llama's parts at a size for CPUs: grouped queries, untied head, 1.7 million parameters.

    gptlab train llama_nano
    """
    large = transformer_pp()
    return large.but(
        name="llama_nano",
        model=large.model.but(
            vocab_size=None,
            context_length=256,
            d_model=160,
            n_layers=4,
            attention=GroupedQuery(n_heads=8, n_kv_heads=2),
            head=Untied(),
        ),
        tokenizer=BPE(vocab_size=2048),
        optimizer=AdamW(lr=2e-3),
        schedule=Cosine(warmup=0.05),
        train=Train(steps=1_000, batch_tokens=4_096),
    )
