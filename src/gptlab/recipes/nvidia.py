"""nGPT: everything that meets lies on the unit sphere, and training finds its way along it.

What makes a comparison fair: `ngpt_nano` and `transformer_pp_nano` have the same matrices, data and
steps; choose the learning rate of each for itself.
"""

from gptlab.model.gpt import Model
from gptlab.parts.attention.normalized import Normalized as NormalizedAttention
from gptlab.parts.head.token_scaled import TokenScaled
from gptlab.parts.initialization.unit_norm import UnitNorm
from gptlab.parts.mlp.normalized_swiglu import NormalizedSwiGLU
from gptlab.parts.norm.l2 import L2
from gptlab.parts.positions.rotary import Rotary
from gptlab.parts.residual.normalized import Normalized as NormalizedResidual
from gptlab.recipes._families import nano, published
from gptlab.train.optimizers.adamw import AdamW
from gptlab.train.recipe import Recipe
from gptlab.train.schedules.cosine import Cosine


def ngpt() -> Recipe:
    """The normalized GPT with half a billion parameters (nGPT, arXiv:2410.01131).

    Without weight decay and warm-up.

        gptlab train ngpt data.path=FOLDER
    """
    model = Model(
        vocab_size=32_000,
        context_length=1024,
        d_model=1024,
        n_layers=24,
        positions=Rotary(),
        norm=L2(),
        attention=NormalizedAttention(n_heads=16),
        mlp=NormalizedSwiGLU(d_ff=4096),
        residual=NormalizedResidual(),
        head=TokenScaled(),
        initialization=UnitNorm(),
    )
    return _without_decay_and_warmup(published("ngpt", model), lr=1.5e-3)


def ngpt_nano() -> Recipe:
    """The parts of nGPT at a size for CPUs: 1.9 million parameters, as `transformer_pp_nano`.

    gptlab train ngpt_nano
    """
    attention = NormalizedAttention(n_heads=8)
    small = nano("ngpt_nano", ngpt().model, attention=attention, mlp=NormalizedSwiGLU())
    return _without_decay_and_warmup(small, lr=4e-3)


def _without_decay_and_warmup(recipe: Recipe, lr: float) -> Recipe:
    optimizer, schedule = AdamW(lr=lr, weight_decay=0.0), Cosine(final=0.0)
    return recipe.but(optimizer=optimizer, schedule=schedule)
