"""Mixture of experts: each token is computed by a few of many MLPs, which a router chooses.

Sparsely gated (arXiv:1701.06538), as in Mixtral (arXiv:2401.04088), Qwen3, GPT-OSS and DeepSeek-V3
(arXiv:2412.19437). It has the parameters of all experts and the cost of `top_k` of them. No expert
is ever full, so that a token's result does not depend on the others in its batch.

B batch, T tokens, D d_model, N tokens of all rows, K experts of a token, M = N * K.
"""

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from gptlab.parts.context import Context
from gptlab.parts.layers import Linear
from gptlab.parts.mlp import MLP
from gptlab.parts.mlp._router import RouterSettings
from gptlab.parts.mlp.swiglu import SwiGLU
from gptlab.parts.needs import Needs


class MixtureOfExperts(RouterSettings):
    """`n_experts`: how many there are. `top_k`: how many of them compute a token.

    `expert`: what each of them is. `shared`: an MLP beside them that computes every token.
    `dense_layers`: the MLPs of the first layers, which have no experts; one for each such layer.
    `score`: what a router's logits become. `renormalize`: whether the weights of the chosen experts
    add up to 1; with softmax that is a softmax over the chosen ones alone (Mixtral, GPT-OSS), and
    without it one over all of them (OLMoE, some of Qwen3). `routed_scale` multiplies the weights.
    `router_bias`: whether logits have a learned bias.
    `n_groups`, `top_groups`: choose among the experts of the best groups alone, those whose two
    best scores add up to most (DeepSeek-V3).
    `balance_loss`, `sequence_balance_loss`, `router_z_loss`: weights of auxiliary losses, for each
    layer; 0 is none. The first two are their weight where the load is even.
    `load_bias_step`: by how much a bias on the choice moves after each step, against uneven loads
    and without a loss; 0 is no bias.
    """

    expert: MLP = SwiGLU()
    shared: MLP | None = None
    dense_layers: tuple[MLP, ...] = ()

    def build(self, needs: Needs, layer: int) -> nn.Module:
        self.check_choice()
        inner = {"expert": self.expert, "shared": self.shared}
        inner |= {f"dense_layers.{i}": dense for i, dense in enumerate(self.dense_layers)}
        for name, mlp in inner.items():
            if isinstance(mlp, MixtureOfExperts):
                raise ValueError(
                    f"model.mlp.{name}=mixture_of_experts inside of model.mlp=mixture_of_experts: "
                    "a mixture is made of dense MLPs; name one, such as swiglu"
                )
        if len(self.dense_layers) >= needs.n_layers:
            raise ValueError(
                f"model.mlp.dense_layers has {len(self.dense_layers)} layers and model.n_layers="
                f"{needs.n_layers}: no layer would have experts; name fewer, or a dense model.mlp"
            )
        if layer < len(self.dense_layers):
            return self.dense_layers[layer].build(needs, layer)
        return Mixture(self, needs, layer)


class Mixture(nn.Module):
    def __init__(self, settings: MixtureOfExperts, needs: Needs, layer: int):
        super().__init__()
        self.router = settings.build_router(needs.d_model)
        self.experts = nn.ModuleList(
            settings.expert.build(needs, layer) for _ in range(settings.n_experts)
        )
        self.shared = settings.shared.build(needs, layer) if settings.shared else Nothing()
        for module in self.experts.modules():
            if isinstance(module, Linear):
                module.used = settings.top_k / settings.n_experts

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        weights_BTK, experts_BTK = self.router(x_BTD, context)
        y_NKD = self.compute(x_BTD.flatten(0, 1), experts_BTK.flatten(0, 1), context)
        y_BTKD = y_NKD.unflatten(0, x_BTD.shape[:2])
        y_BTD = (weights_BTK[..., None] * y_BTKD).sum(dim=2) + self.shared(x_BTD, context)
        return y_BTD.to(y_NKD.dtype)

    def compute(self, x_ND: Tensor, experts_NK: Tensor, context: Context) -> Tensor:
        """Compute y_NKD: sort by expert, let each compute its tokens at once, sort back.

        Only permutations are gathered, so that nothing is added up in an order left to chance.
        """
        K = experts_NK.shape[1]
        by_expert_M = experts_NK.flatten().argsort(stable=True)
        x_MD = x_ND[:, None].expand(-1, K, -1).flatten(0, 1).index_select(0, by_expert_M)
        portions = x_MD.split(loads(experts_NK, len(self.experts)))
        results = [
            expert(portion, context)
            for expert, portion in zip(self.experts, portions, strict=True)
            if len(portion)
        ]
        return torch.cat(results).index_select(0, by_expert_M.argsort()).unflatten(0, (-1, K))


class Nothing(nn.Module):
    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        return x_BTD.new_zeros(())


def loads(experts_NK: Tensor, n_experts: int) -> list[int]:
    """Count each expert's tokens; where tensors have no contents, take them to be even."""
    if experts_NK.is_meta or isinstance(experts_NK, FakeTensor):
        M = experts_NK.numel()
        return [(x + 1) * M // n_experts - x * M // n_experts for x in range(n_experts)]
    return experts_NK.flatten().bincount(minlength=n_experts).tolist()
