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
from gptlab.recipes._families import nano, published
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


def transformer_pp_nano() -> Recipe:
    """Transformer++ at a size for CPUs, with a head of its own: what `ngpt_nano` is measured by.

    gptlab train transformer_pp_nano
    """
    small = nano(
        "transformer_pp_nano",
        transformer_pp().model,
        attention=GroupedQuery(n_heads=8),
        head=Untied(),
    )
    return small.but(schedule=Cosine(warmup=0.05, final=0.0))


def llama3() -> Recipe:
    """Llama 3 with 8 billion parameters: RoPE, RMSNorm, SwiGLU, grouped queries (arXiv:2407.21783).

    gptlab train llama3 data.path=FOLDER
    """
    return published(
        "llama3",
        Model(
            vocab_size=128_256,
            context_length=8192,
            d_model=4096,
            n_layers=32,
            positions=Rotary(base=500_000),
            norm=RMSNorm(),
            attention=GroupedQuery(n_heads=32, n_kv_heads=8),
            mlp=SwiGLU(d_ff=14_336),
            residual=PreNorm(),
            head=Untied(),
            initialization=GPT2(),
        ),
    )


def llama3_nano() -> Recipe:
    """Llama 3's parts at a size for CPUs: 1.7 million parameters.

    gptlab train llama3_nano
    """
    attention = GroupedQuery(n_heads=8, n_kv_heads=2)
    return nano("llama3_nano", llama3().model, attention=attention, mlp=SwiGLU())
