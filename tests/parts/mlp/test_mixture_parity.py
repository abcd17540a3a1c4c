"""Mixtures of experts give what those of `transformers` give with the same weights."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gptlab.kernels.places import Places
from gptlab.model.gpt import Model
from gptlab.parts.context import Context
from gptlab.parts.mlp._router import BestGroups, Router
from gptlab.parts.mlp.clamped_swiglu import ClampedSwiGLU

transformers = pytest.importorskip("transformers")

Tiny = Callable[..., Model]
Parts = dict[str, Any]
B, T, D, F, X, K, LIMIT = 3, 24, 48, 20, 8, 3, 1.5
SWIGLU = {"type": "swiglu", "d_ff": F}
CLAMPED = {"type": "clamped_swiglu", "d_ff": F, "limit": LIMIT, "bias": True}
OURS = {"type": "mixture_of_experts", "n_experts": X, "top_k": K, "expert": SWIGLU}
FAMILIES: dict[str, tuple[str, str, Parts, Parts]] = {
    "Mixtral": ("mixtral", "SparseMoeBlock", {"num_local_experts": X}, {}),
    "Qwen3Moe": (
        "qwen3_moe",
        "SparseMoeBlock",
        {"num_experts": X, "norm_topk_prob": False},
        {"renormalize": False},
    ),
    "GptOss": (
        "gpt_oss",
        "MLP",
        {"num_local_experts": X, "swiglu_limit": LIMIT},
        {"expert": CLAMPED, "router_bias": True},
    ),
    "DeepseekV3": (
        "deepseek_v3",
        "MoE",
        {
            "n_routed_experts": X,
            "n_shared_experts": 2,
            "n_group": 4,
            "topk_group": 2,
            "routed_scaling_factor": 2.5,
        },
        {
            "score": "sigmoid",
            "n_groups": 4,
            "top_groups": 2,
            "routed_scale": 2.5,
            "shared": SWIGLU | {"d_ff": 2 * F},
            "load_bias_step": 1e-3,
        },
    ),
}


def their_block(family: str) -> nn.Module:
    """Build theirs, with weights large enough to choose and a correction that is below zero."""
    folder, name, settings, _ = FAMILIES[family]
    sizes = {"hidden_size": D, "intermediate_size": F, "num_experts_per_tok": K}
    config = getattr(transformers, f"{family}Config")(
        **sizes, moe_intermediate_size=F, experts_implementation="eager", **settings
    )
    module = import_module(f"transformers.models.{folder}.modeling_{folder}")
    block = getattr(module, f"{family}{name}")(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in block.state_dict().values():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
        if family == "DeepseekV3":
            block.gate.e_score_correction_bias -= 1
    return block


def our_weights(family: str, block: nn.Module) -> dict[str, Tensor]:
    """Their weights under our names."""
    weights = {}
    for name, value in block.state_dict().items():
        owner, _, kind = name.rpartition(".")
        if owner == "experts":
            weights |= expert_weights(kind, value, transposed=family == "GptOss")
        elif kind == "e_score_correction_bias":
            weights["router.load_bias.bias_X"] = value
        elif owner.startswith("shared_experts"):
            weights[f"shared.{owner.partition('.')[2].removesuffix('_proj')}.weight"] = value
        else:
            weights[f"router.matrix.{kind}"] = value
    return weights


def expert_weights(name: str, stacked: Tensor, transposed: bool) -> dict[str, Tensor]:
    """Take experts apart, and gate from up: halves of one matrix, or every other column of it."""
    layer, _, bias = name.partition("_proj")
    weights = {}
    for i, matrix in enumerate(stacked.movedim(1, -1) if transposed else stacked):
        halves = (matrix[::2], matrix[1::2]) if transposed else matrix.chunk(2)
        parts = (
            zip(("gate", "up"), halves, strict=True) if layer == "gate_up" else [(layer, matrix)]
        )
        suffix = "bias" if bias else "weight"
        weights |= {f"experts.{i}.{part}.{suffix}": value for part, value in parts}
    return weights


@torch.no_grad()
def furthest(tiny: Tiny, family: str, **changes: Any) -> float:
    block = their_block(family)
    x_BTD = torch.randn(B, T, D, generator=torch.Generator().manual_seed(1))
    result = block(x_BTD)
    expected_BTD = result[0] if isinstance(result, tuple) else result
    assert 0.3 < expected_BTD.std() < 3
    mlp = OURS | FAMILIES[family][3] | changes
    ours = tiny(mlp=mlp, d_model=D, n_layers=1).build().eval().blocks[0].get_submodule("mlp")
    ours.load_state_dict(our_weights(family, block))
    return (ours(x_BTD, Context(Places.counted(0, T))) - expected_BTD).abs().max().item()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixture_is_theirs(tiny: Tiny, family: str):
    assert furthest(tiny, family) <= 2e-5


MUTATIONS: dict[str, tuple[str, Parts]] = {
    "softmax over all experts": ("Mixtral", {"renormalize": False}),
    "softmax over the chosen ones": ("Qwen3Moe", {"renormalize": True}),
    "one expert less": ("Qwen3Moe", {"top_k": K - 1}),
    "no clamp": ("GptOss", {"expert": CLAMPED | {"limit": 1e9}}),
    "SiLU": ("GptOss", {"expert": CLAMPED | {"alpha": 1.0}}),
    "softmax over all, GPT-OSS": ("GptOss", {"renormalize": False}),
    "no scale": ("DeepseekV3", {"routed_scale": 1.0}),
    "no groups": ("DeepseekV3", {"n_groups": 1, "top_groups": 1}),
    "larger groups": ("DeepseekV3", {"n_groups": 2, "top_groups": 1}),
    "softmax for sigmoid": ("DeepseekV3", {"score": "softmax"}),
    "sigmoids as they are": ("DeepseekV3", {"renormalize": False}),
}


@pytest.mark.parametrize(("family", "changes"), MUTATIONS.values(), ids=MUTATIONS.keys())
def test_another_setting_would_show(tiny: Tiny, family: str, changes: Parts):
    assert furthest(tiny, family, **changes) > 1e-2


def masked_by_zero(self: BestGroups, scores_BTX: Tensor) -> Tensor:
    limited_BTX = BEST_GROUPS(self, scores_BTX)
    return limited_BTX.masked_fill(limited_BTX.isinf(), 0.0)


def by_the_best_one(self: BestGroups, scores_BTX: Tensor) -> Tensor:
    best_BTG = scores_BTX.unflatten(-1, (self.n_groups, -1)).amax(-1)
    groups_BTG = best_BTG.topk(self.top_groups)[1]
    kept_BTG = torch.zeros_like(best_BTG, dtype=torch.bool).scatter(-1, groups_BTG, True)
    kept_BTX = kept_BTG.repeat_interleave(X // self.n_groups, dim=-1)
    return scores_BTX.masked_fill(~kept_BTX, -torch.inf)


def bias_in_the_weights(self: Router, x_BTD: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    _, experts_BTK = ROUTE(self, x_BTD, context)
    scores_BTX = self.load_bias(self.matrix(x_BTD).sigmoid())
    weights_BTK = scores_BTX.gather(-1, experts_BTK)
    return self.scale * weights_BTK / weights_BTK.sum(-1, keepdim=True), experts_BTK


def up_alone(self: ClampedSwiGLU, gate: Tensor, up: Tensor) -> Tensor:
    return GATING(self, gate, up.clamp(-self.limit, self.limit) - 1)


def up_without_limit(self: ClampedSwiGLU, gate: Tensor, up: Tensor) -> Tensor:
    gate = gate.clamp(max=self.limit)
    return gate * (self.alpha * gate).sigmoid() * (up + 1)


BEST_GROUPS, ROUTE, GATING = BestGroups.forward, Router.forward, ClampedSwiGLU.gating
MISTAKES: dict[str, tuple[str, type, str, Callable[..., Any]]] = {
    "masked by zero": ("DeepseekV3", BestGroups, "forward", masked_by_zero),
    "groups by the best one": ("DeepseekV3", BestGroups, "forward", by_the_best_one),
    "bias in the weights": ("DeepseekV3", Router, "forward", bias_in_the_weights),
    "up alone": ("GptOss", ClampedSwiGLU, "gating", up_alone),
    "up without limit": ("GptOss", ClampedSwiGLU, "gating", up_without_limit),
}


@pytest.mark.parametrize(("family", "kind", "name", "mistake"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_would_show(
    tiny: Tiny,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    kind: type,
    name: str,
    mistake: Callable[..., Any],
):
    monkeypatch.setattr(kind, name, mistake)
    assert furthest(tiny, family) > 1e-2
