"""muP: learning rates that suit a narrow model suit a wide one (arXiv:2203.03466).

With m = d_model / base_width, for Adam, in the form of that paper's table 8:

    matrix                             initial deviation        learning rate
    input, output (hidden)             1 / sqrt(fan_in)         lr / m
    mixing, router (to a fixed width)  1 / sqrt(m fan_in) *     lr / m
    embedding, position, head          scale                    lr
    vectors                            as everywhere            lr

* unless the part fixes where it starts itself, as mixtures and hyper-connections do. Logits are
divided by m, which a tied head needs and an untied one bears. Inner widths (d_ff,
heads) are taken to grow with d_model. Where d_head grows too, scores are to shrink as 1/d_head:
model.attention.scale. Weight decay keeps its strength, and Muon takes 1 / sqrt(m) where Adam takes
1 / m: see `train/optimizers`.
"""

import math

from pydantic import PositiveFloat, PositiveInt

from gptlab.parts.initialization import Initialization, Matrix

TABLES = ("embedding", "position", "head")
TO_FIXED_WIDTH = ("mixing", "router")


class MuP(Initialization):
    """`base_width`: the d_model at which settings were tuned and nothing is rescaled.

    `scale`: the standard deviation of embeddings and of the head.
    """

    base_width: PositiveInt = 256
    scale: PositiveFloat = 0.02

    def std(self, matrix: Matrix) -> float:
        if matrix.role in TABLES:
            return self.scale
        m = matrix.d_model / self.base_width if matrix.role in TO_FIXED_WIDTH else 1.0
        return 1 / math.sqrt(m * matrix.fan_in)

    def lr_factor(self, matrix: Matrix) -> float:
        return 1.0 if matrix.role in TABLES else self.base_width / matrix.d_model

    def logit_factor(self, d_model: int) -> float:
        return self.base_width / d_model
