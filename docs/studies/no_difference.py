"""Does gptlab find a difference where there is none?

The same model learns the same batches in one portion and in two, which changes nothing but how
sums are rounded: an A/A test with real runs.
"""

from gptlab.compare.metrics.bits_per_byte import BitsPerByte
from gptlab.compare.metrics.val_loss import ValLoss
from gptlab.compare.study import Study

study = Study(
    name="no_difference",
    base="shakespeare",
    variants={"two_portions": ("train.micro_batch_tokens=384",)},
    seeds=tuple(range(10)),
    metrics=(BitsPerByte(), ValLoss()),
)
