"""Does nGPT need fewer steps than a pre-norm model, with and without norms on queries and keys?

All have RoPE and SwiGLU, the same matrices and the same tokens, and find their learning rates in
the same way. nGPT trains without weight decay and warm-up, as its paper does (arXiv:2410.01131).
"""

from gptlab.compare.metrics.bits_per_byte import BitsPerByte
from gptlab.compare.metrics.seconds_to_loss import SecondsToLoss
from gptlab.compare.metrics.steps_to_loss import StepsToLoss
from gptlab.compare.study import Study, Tuning

TARGET = 1.9  # nats per character

study = Study(
    name="ngpt",
    base="shakespeare",
    settings=(
        "model.positions=rotary",
        "model.norm=rms_norm",
        "model.mlp=swiglu",
        "model.head=untied",
        "train.steps=1000",
        "train.evaluate_every=50",
    ),
    variants={
        "qk_norm": ("model.attention.qk_norm=rms_norm",),
        "ngpt": (
            "model.norm=l2",
            "model.attention=normalized",
            "model.attention.n_heads=4",
            "model.mlp=normalized_swiglu",
            "model.residual=normalized",
            "model.head=token_scaled",
            "model.initialization=unit_norm",
            "optimizer.weight_decay=0.0",
            "schedule.warmup=0",
        ),
    },
    seeds=(0, 1, 2, 3),
    tune=Tuning(lr=(2e-3, 4e-3, 8e-3)),
    metrics=(BitsPerByte(), StepsToLoss(target=TARGET), SecondsToLoss(target=TARGET)),
)
