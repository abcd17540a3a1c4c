"""Smaller weights, for generation on a CPU, whose time goes into reading them token by token.

`bf16`: half of float32's bytes; products as in training with bf16. Everything else, the stream and
the caches too, stays in float32.
`int8`: a quarter. Each output of a `Linear` has a scale, w = scale * integer in -127..127; it is in
bfloat16, as torch's kernel wants it, and the integers are the nearest for what it then is. Nothing
else is rounded but a product's input and result, to bfloat16. Inputs of another width than a
multiple of 32 stay as they are: the kernel reads beyond such (2.13).
Roles `mixing` and `router`, small and decisive, are left out of both.

I inputs, O outputs, N tokens, V vocabulary.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gptlab import machine
from gptlab.kernels.cross_entropy import IGNORED, logit_losses
from gptlab.model.gpt import GPT
from gptlab.parts.head import LogitHead
from gptlab.parts.head.tied import Tied, TiedHead
from gptlab.parts.layers import Linear

PAYS_FROM = 20_000_000  # parameters: smaller models stand in the processor's caches anyway
FEW_ROWS = 16  # up to here torch's kernel is faster than writing the integers out in bfloat16
AT_ONCE = 256  # rows of weights that are rounded, or tokens that are scored, at once
WIDTHS = 32  # inputs come in multiples of this
ROLES = ("input", "output", "head")


class Bf16Linear(nn.Module):
    """The product of a `Linear` in bfloat16."""

    rounded_OI: Tensor
    bias: Tensor | None

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None):
        super().__init__()
        self.out_features = len(weight_OI)
        self.register_buffer("rounded_OI", weight_OI.detach().to(torch.bfloat16))
        self.register_buffer("bias", None if bias_O is None else bias_O.detach())

    @property
    def weight(self) -> Tensor:
        """In float32, for who reads it himself."""
        return self.rounded_OI.float()

    def forward(self, x: Tensor) -> Tensor:
        y = linear(x.to(torch.bfloat16), self.rounded_OI).to(x.dtype)
        return y if self.bias is None else y + self.bias


class Int8Linear(nn.Module):
    """The product of a `Linear`, from weights in eight bits."""

    integers_OI: Tensor
    scale_O: Tensor
    bias: Tensor | None

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None):
        super().__init__()
        self.out_features = len(weight_OI)
        most_O = torch.linalg.vector_norm(weight_OI.detach().float(), torch.inf, dim=1)
        scale_O = (most_O.clamp(min=1e-12) / 127).to(torch.bfloat16)
        integers_OI = torch.empty(weight_OI.shape, dtype=torch.int8)
        parts = (x.split(AT_ONCE) for x in (weight_OI.detach(), scale_O, integers_OI))
        for part_OI, its_scale_O, into_OI in zip(*parts, strict=True):
            into_OI.copy_((part_OI / its_scale_O[:, None].float()).round_())
        self.register_buffer("integers_OI", integers_OI)
        self.register_buffer("scale_O", scale_O)
        self.register_buffer("bias", None if bias_O is None else bias_O.detach())

    @property
    def weight(self) -> Tensor:
        """What the integers stand for, written out."""
        return self.integers_OI.float() * self.scale_O[:, None].float()

    def forward(self, x: Tensor) -> Tensor:
        x_NI = x.flatten(0, -2).to(torch.bfloat16)
        if len(x_NI) <= FEW_ROWS:
            y_NO = torch.ops.aten._weight_int8pack_mm(x_NI, self.integers_OI, self.scale_O)
        else:  # the same sums, of integers that bfloat16 holds exactly
            y_NO = linear(x_NI, self.integers_OI.to(torch.bfloat16)) * self.scale_O.to(x.dtype)
        y = y_NO.to(x.dtype).unflatten(0, x.shape[:-1])
        return y if self.bias is None else y + self.bias


class QuantizedTiedHead(LogitHead):
    """A head that reads the token embedding, with a smaller matrix of its own."""

    def __init__(self, head: TiedHead, matrix: Bf16Linear | Int8Linear):
        super().__init__(Tied(softcap=head.softcap, z_loss=head.z_weight or None))
        self.scale, self.matrix = head.scale, matrix

    def scores(self, x_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
        return self.matrix(x_BTD)


KINDS = {"bf16": Bf16Linear, "int8": Int8Linear}


def check_form(name: str) -> None:
    """Raise ValueError for a form that there is not."""
    if name not in ("auto", "none", *KINDS):
        raise ValueError(f"--quantize={name} must be auto, none, {' or '.join(KINDS)}")


def choose(name: str, model: GPT) -> str:
    """Turn `auto` into `bf16` where that pays, or `none`. Raises ValueError for what cannot be."""
    check_form(name)
    is_cpu = model.embedding.weight.device.type == "cpu"
    if name == "auto":
        pays = is_cpu and n_parameters(model) >= PAYS_FROM and machine.bf16_is_fast("cpu")
        return "bf16" if pays else "none"
    if name in KINDS and not is_cpu:
        raise ValueError(f"--quantize={name} is for the CPU: add --device=cpu")
    return name


def n_parameters(model: GPT) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def quantize(model: GPT, to: str) -> None:
    """Put the weights of every product of layers and head into another form, in place.

    One after the other: each lets go of the weight that it had.
    """
    if to == "none":
        return
    kind = KINDS[to]

    def fits(weight_OI: Tensor) -> bool:
        return kind is Bf16Linear or weight_OI.shape[1] % WIDTHS == 0

    for module in model.modules():
        for name in [name for name, _ in module.named_children()]:
            child = getattr(module, name)
            if isinstance(child, Linear) and child.role in ROLES and fits(child.weight):
                setattr(module, name, kind(child.weight, child.bias))
    if isinstance(model.head, TiedHead) and fits(model.embedding.weight):
        model.head = QuantizedTiedHead(model.head, kind(model.embedding.weight, None))
    model.head.compute = partial(_losses, model.head)


def _losses(
    head: LogitHead,
    x_BTD: Tensor,
    targets_BT: Tensor,
    embedding_VD: Tensor,
    z_weight: float,
    reduction: str,
) -> dict[str, Tensor]:
    """Compute losses from the very logits that generation draws from."""
    parts = zip(
        x_BTD.flatten(0, -2).split(AT_ONCE), targets_BT.flatten().split(AT_ONCE), strict=True
    )
    nats = [
        logit_losses(head(x_ND, embedding_VD), targets_N, reduction="none")["loss"]
        for x_ND, targets_N in parts
    ]
    nats_N = torch.cat(nats)
    if reduction == "mean":
        return {"loss": nats_N.sum() / (targets_BT != IGNORED).sum()}
    return {"loss": nats_N.sum() if reduction == "sum" else nats_N}
