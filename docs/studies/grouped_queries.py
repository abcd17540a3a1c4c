"""What do fewer heads of keys and values cost, and what do they save?

Six heads of queries; six, three, two or one of keys and values (arXiv:2305.13245, arXiv:1911.02150).
The runs are short: what they say about speed and memory holds, what they say about the loss is of
200 steps.
"""

from gptlab.compare.metrics.bits_per_byte import BitsPerByte
from gptlab.compare.metrics.tokens_per_second import TokensPerSecond
from gptlab.compare.study import Study

study = Study(
    name="grouped_queries",
    base="chargpt",
    settings=(
        "train.steps=200",
        "train.batch_tokens=4096",
        "schedule=cosine",
        "schedule.warmup=0.05",
    ),
    variants={
        "kv3": ("model.attention.n_kv_heads=3",),
        "kv2": ("model.attention.n_kv_heads=2",),
        "kv1": ("model.attention.n_kv_heads=1",),
    },
    seeds=(0, 1, 2),
    metrics=(BitsPerByte(), TokensPerSecond()),
)
