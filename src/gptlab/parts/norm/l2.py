"""L2: vectors of one length, whatever they come with (nGPT, arXiv:2410.01131).

y = length * x / max(|x|, eps), over the last axis, without a gain. Computed in float32 at least.
"""

from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import normalize

from gptlab.kernels.precision import precise
from gptlab.parts.norm import Norm


class L2(Norm):
    """`length`: what every vector becomes; queries and keys of 1 have scores of at most 1/sqrt(E).

    `eps`: vectors shorter than this stay shorter.
    """

    length: PositiveFloat = 1.0
    eps: PositiveFloat = 1e-6

    def build(self, width: int) -> nn.Module:
        return L2Layer(self.length, self.eps)


class L2Layer(nn.Module):
    def __init__(self, length: float, eps: float):
        super().__init__()
        self.length, self.eps = length, eps

    def forward(self, x: Tensor) -> Tensor:
        return (self.length * normalize(precise(x), dim=-1, eps=self.eps)).to(x.dtype)
