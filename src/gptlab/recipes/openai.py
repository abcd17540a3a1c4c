"""GPT-2 in its four sizes (Radford et al., 2019), the baseline of everything here; GPT-OSS."""

from gptlab.data.sources.python import Python
from gptlab.model.gpt import Model
from gptlab.parts.attention.alternating import Alternating
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.head.tied import Tied
from gptlab.parts.head.untied import Untied
from gptlab.parts.initialization.gpt2 import GPT2
from gptlab.parts.mlp.clamped_swiglu import ClampedSwiGLU
from gptlab.parts.mlp.gelu import Gelu
from gptlab.parts.mlp.mixture_of_experts import MixtureOfExperts
from gptlab.parts.norm.layer_norm import LayerNorm
from gptlab.parts.norm.rms_norm import RMSNorm
from gptlab.parts.positions.learned import Learned
from gptlab.parts.positions.rotary import Rotary
from gptlab.parts.residual.pre_norm import PreNorm
from gptlab.parts.scaling.yarn import YaRN
from gptlab.recipes._families import nano, published
from gptlab.tokenizer.bpe import BPE
from gptlab.train.optimizers.adamw import AdamW
from gptlab.train.recipe import Recipe, Train
from gptlab.train.schedules.cosine import Cosine


def gpt2() -> Recipe:
    """GPT-2 small, 124,439,808 parameters: learned positions, LayerNorm, GELU, biases, tied head.

    Trained on 10 billion tokens in batches of half a million, as is usual today; without the 0.1
    dropout of 2019 (`model.dropout=0.1`), since no text is read twice.

        gptlab train gpt2 data.path=FOLDER
    """
    return _gpt2("gpt2", n_layers=12, n_heads=12, d_model=768, lr=6e-4)


def gpt2_medium() -> Recipe:
    """GPT-2 medium, 355 million parameters.

    gptlab train gpt2_medium data.path=FOLDER
    """
    return _gpt2("gpt2_medium", n_layers=24, n_heads=16, d_model=1024, lr=3e-4)


def gpt2_large() -> Recipe:
    """GPT-2 large, 774 million parameters.

    gptlab train gpt2_large data.path=FOLDER
    """
    return _gpt2("gpt2_large", n_layers=36, n_heads=20, d_model=1280, lr=2.5e-4)


def gpt2_xl() -> Recipe:
    """GPT-2 XL, 1.56 billion parameters.

    gptlab train gpt2_xl data.path=FOLDER
    """
    return _gpt2("gpt2_xl", n_layers=48, n_heads=25, d_model=1600, lr=2e-4)


def gpt_oss() -> Recipe:
    """GPT-OSS with 21 billion parameters, of which a token uses 3.6 (arXiv:2508.10925).

    Windows of 128 tokens in every other layer, a sink in every head, 4 of 32 experts with clamped
    SwiGLU, biases; a context of 4,096 made 32 times as long by YaRN.

        gptlab train gpt_oss data.path=FOLDER
    """
    extension = YaRN(factor=32, original_length=4096, truncate=False)
    model = Model(
        vocab_size=201_088,
        context_length=131_072,
        d_model=2880,
        n_layers=24,
        positions=Rotary(base=150_000, scaling=extension),
        norm=RMSNorm(),
        attention=_local_and_global(n_heads=64, n_kv_heads=8, window=128),
        mlp=_experts(n_experts=32, d_ff=2880),
        residual=PreNorm(),
        head=Untied(),
        initialization=GPT2(),
    )
    return published("gpt_oss", model)


def gpt_oss_nano() -> Recipe:
    """GPT-OSS's parts at a size for CPUs: windows of 32, 4 of 16 experts.

    gptlab train gpt_oss_nano
    """
    return nano(
        "gpt_oss_nano",
        gpt_oss().model,
        positions=Rotary(base=150_000),
        attention=_local_and_global(n_heads=4, n_kv_heads=1, window=32),
        mlp=_experts(n_experts=16, d_ff=64),
    )


def _local_and_global(n_heads: int, n_kv_heads: int, window: int) -> Alternating:
    everywhere = GroupedQuery(
        n_heads=n_heads, n_kv_heads=n_kv_heads, d_head=64, sinks=True, bias=True
    )
    return Alternating(of=(everywhere.but(window=window), everywhere))


def _experts(n_experts: int, d_ff: int) -> MixtureOfExperts:
    expert = ClampedSwiGLU(d_ff=d_ff, bias=True)
    return MixtureOfExperts(n_experts=n_experts, top_k=4, router_bias=True, expert=expert)


def _gpt2(name: str, n_layers: int, n_heads: int, d_model: int, lr: float) -> Recipe:
    return Recipe(
        name=name,
        model=Model(
            vocab_size=50_257,
            context_length=1024,
            d_model=d_model,
            n_layers=n_layers,
            positions=Learned(),
            norm=LayerNorm(),
            attention=GroupedQuery(n_heads=n_heads, bias=True),
            mlp=Gelu(bias=True),
            residual=PreNorm(),
            head=Tied(),
            initialization=GPT2(),
        ),
        tokenizer=BPE(vocab_size=50_257),
        data=Python(val_fraction=0.01),
        optimizer=AdamW(lr=lr),
        schedule=Cosine(warmup=0.04),
        train=Train(steps=19_073, batch_tokens=524_288),
    )
