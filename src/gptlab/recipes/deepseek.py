"""DeepSeek: latent attention, and many small experts that no auxiliary loss keeps even."""

from gptlab.parts.attention.latent import Latent
from gptlab.parts.initialization.flat import Flat
from gptlab.parts.mlp.mixture_of_experts import MixtureOfExperts
from gptlab.parts.mlp.swiglu import SwiGLU
from gptlab.parts.norm.rms_norm import RMSNorm
from gptlab.parts.positions.rotary import Rotary
from gptlab.parts.scaling.yarn import YaRN, magnitude
from gptlab.recipes._families import nano, published
from gptlab.recipes.meta import llama3
from gptlab.train.recipe import Recipe


def deepseek_v3() -> Recipe:
    """DeepSeek-V3 with 671 billion parameters, of which a token uses 37 (arXiv:2412.19437).

    Every head reads one latent vector a token; 8 of 256 experts out of the 4 best of 8 groups,
    beside one that computes every token; three dense layers first; a context of 4,096 made forty
    times as long by YaRN, whose magnitude is in the scale of the scores. Without the module that
    predicts the second next token.

        gptlab train deepseek_v3 data.path=FOLDER
    """
    extension = YaRN(factor=40, original_length=4096, magnitude=1.0)
    attention = Latent(
        n_heads=128,
        d_latent=512,
        d_query_latent=1536,
        d_nope=128,
        d_rope=64,
        d_value=128,
        scale=192**-0.5 * magnitude(extension.factor) ** 2,
    )
    model = llama3().model.but(
        vocab_size=129_280,
        context_length=163_840,
        d_model=7168,
        n_layers=61,
        positions=Rotary(layout="interleaved", scaling=extension),
        norm=RMSNorm(eps=1e-6),
        attention=attention,
        mlp=_mixture(n_experts=256, top_k=8, d_ff=2048).but(
            n_groups=8, top_groups=4, dense_layers=(SwiGLU(d_ff=18_432),) * 3
        ),
        initialization=Flat(scale=0.006),
    )
    return published("deepseek_v3", model)


def deepseek_v3_nano() -> Recipe:
    """DeepSeek-V3's parts at a size for CPUs: 4 of 16 experts, out of the 2 best of 4 groups.

    gptlab train deepseek_v3_nano
    """
    mixture = _mixture(n_experts=16, top_k=4, d_ff=48)
    return nano(
        "deepseek_v3_nano",
        deepseek_v3().model,
        positions=Rotary(layout="interleaved"),
        attention=Latent(
            n_heads=4, d_latent=64, d_query_latent=96, d_nope=32, d_rope=16, d_value=32
        ),
        mlp=mixture.but(n_groups=4, top_groups=2, dense_layers=(SwiGLU(),)),
        initialization=Flat(),
    )


def _mixture(n_experts: int, top_k: int, d_ff: int) -> MixtureOfExperts:
    return MixtureOfExperts(
        n_experts=n_experts,
        top_k=top_k,
        expert=SwiGLU(d_ff=d_ff),
        shared=SwiGLU(d_ff=d_ff),
        score="sigmoid",
        routed_scale=2.5,
        balance_loss=0.0,
        sequence_balance_loss=1e-4,
        load_bias_step=1e-3,
    )
