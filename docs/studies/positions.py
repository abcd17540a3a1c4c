"""How do positions do, within the context that was trained and beyond it?

Learned vectors, sinusoids, RoPE, ALiBi, and none at all. All have one learning rate.
"""

from gptlab.compare.metrics.bits_per_byte import BitsPerByte
from gptlab.compare.metrics.loss_beyond import LossBeyond
from gptlab.compare.study import Study

study = Study(
    name="positions",
    base="shakespeare",
    settings=("train.steps=1000", "optimizer.lr=4e-3"),
    variants={
        "sinusoidal": ("model.positions=sinusoidal",),
        "rope": ("model.positions=rotary",),
        "alibi": ("model.positions=alibi",),
        "none": ("model.positions=none",),
    },
    seeds=(0, 1, 2),
    metrics=(BitsPerByte(), LossBeyond(factor=2), LossBeyond(factor=4)),
)
