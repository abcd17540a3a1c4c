"""What do fewer heads of keys and values cost, and what do they save?

Six heads of queries; six, three, two or one of keys and values (arXiv:1911.02150, 2305.13245).
Small batches and a higher learning rate than the recipe's, so that a short run learns something.
"""

from gptlab.compare.metrics.bits_per_byte import BitsPerByte
from gptlab.compare.metrics.tokens_per_second import TokensPerSecond
from gptlab.compare.study import Study

study = Study(
    name="grouped_queries",
    base="chargpt",
    settings=(
        "optimizer.lr=2e-3",
        "schedule=cosine",
        "schedule.warmup=0.05",
        "train.steps=1000",
        "train.batch_tokens=1024",
    ),
    variants={
        "kv3": ("model.attention.n_kv_heads=3",),
        "kv2": ("model.attention.n_kv_heads=2",),
        "kv1": ("model.attention.n_kv_heads=1",),
    },
    seeds=(0, 1, 2),
    metrics=(BitsPerByte(), TokensPerSecond()),
)
