"""Widen, GELU, narrow (arXiv:1606.08415), in the tanh form that GPT-2 uses."""

from functools import partial
from typing import Literal

from torch import nn
from torch.nn.functional import gelu

from gptlab.kernels.gelu import exact_gelu
from gptlab.parts.mlp._plain import PlainSettings
from gptlab.parts.needs import Needs


class Gelu(PlainSettings):
    """`approximate`: `tanh` is GPT-2's form, `none` the exact one with the error function."""

    approximate: Literal["tanh", "none"] = "tanh"

    def build(self, needs: Needs, layer: int) -> nn.Module:
        forms = {"tanh": partial(gelu, approximate="tanh"), "none": exact_gelu}
        return self.assemble(needs, forms[self.approximate])
