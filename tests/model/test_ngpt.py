"""nGPT whole against its paper's equations (arXiv:2410.01131), written out here in float64.

The other side is one function of plain tensors: no module, no kernel, no optimizer is shared. Every
known mistake of other implementations, made in it, must be seen.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.model.gpt import GPT, Model
from gptlab.train.optimizers.adamw import AdamW

Tiny = Callable[..., Model]
Weights = dict[str, Tensor]

D, H, E, F, V, T, LAYERS = 32, 4, 8, 40, 31, 12, 2
ROOT_D = D**-0.5
LR, BETA1, BETA2, EPS, STEPS = 1e-2, 0.9, 0.95, 1e-6, 3
NGPT: dict[str, Any] = {
    "d_model": D,
    "positions": "rotary",
    "norm": {"type": "l2", "eps": 1e-12},
    "attention": {"type": "normalized", "n_heads": H},
    "mlp": {"type": "normalized_swiglu", "d_ff": F},
    "residual": "normalized",
    "head": "token_scaled",
    "initialization": "unit_norm",
}
GROUPED = {"attention": {"type": "normalized", "n_heads": H, "n_kv_heads": 2}}
NAMES = {  # the paper's, by ours
    "attention.query.weight": "W_q",
    "attention.key.weight": "W_k",
    "attention.value.weight": "W_v",
    "attention.output.weight": "W_o",
    "attention.query_norm.gain.weight": "s_q",
    "attention.key_norm.gain.weight": "s_k",
    "mlp.gate.weight": "W_nu",
    "mlp.up.weight": "W_u",
    "mlp.down.weight": "W_down",
    "mlp.gating.s_u.weight": "s_u",
    "mlp.gating.s_v.weight": "s_nu",
    "residual.alphas.0.weight": "alpha_A",
    "residual.alphas.1.weight": "alpha_M",
    "embedding.weight": "E_in",
    "head.matrix.weight": "E_out",
    "head.s_z.weight": "s_z",
}
INIT_AND_SCALE = {
    "alpha_A": (0.05, ROOT_D),
    "alpha_M": (0.05, ROOT_D),
    "s_q": (1.0, ROOT_D),
    "s_k": (1.0, ROOT_D),
    "s_u": (1.0, 1.0),
    "s_nu": (1.0, 1.0),
    "s_z": (1.0, ROOT_D),
}
MISTAKES_IN_LOGITS = [
    "score scale 1/sqrt(d_head)",
    "no sqrt(d_model) on s_nu",
    "s_qk of one head for all",
    "s_qk before the rotation",
    "alpha without its sign taken away",
    "a norm before the head",
    "no norm of what a branch writes",
    "no norm of the stream",
    "one s_z for all tokens",
]
MISTAKES_IN_STEP = [
    "output columns not held but rows",
    "down columns not held but rows",
    "embedding not held",
    "scales worth what is stored",
    "decay",
]


def ngpt(tiny: Tiny, **changes: Any) -> GPT:
    """Build nGPT in float64 with scales that all differ, some below zero."""
    gpt = tiny(**(NGPT | changes)).build(seed=7).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in gpt.named_parameters():
            if paper_name(name) in INIT_AND_SCALE:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.mul_(1 + 0.8 * noise)
    return gpt


def paper_name(name: str) -> str:
    return NAMES.get(".".join(name.split(".")[2:]), NAMES.get(name, name))


def weights_of(gpt: GPT) -> Weights:
    """Copy a model's parameters, by the paper's names: `0 W_q`, `E_in`."""
    weights = {}
    for name, parameter in gpt.named_parameters():
        layer = f"{name.split('.')[1]} " if name.startswith("blocks.") else ""
        weights[layer + paper_name(name)] = parameter.detach().clone().requires_grad_()
    return weights


def unit(x: Tensor, dim: int = -1) -> Tensor:
    return x / (x * x).sum(dim, keepdim=True).sqrt()


def rotated(x_THE: Tensor) -> Tensor:
    """Turn the pair (i, i + E/2) of a head at position t by t * 10000^(-2i/E)."""
    angle_TF = torch.arange(T).double()[:, None] * 10000.0 ** -(
        torch.arange(E // 2).double() * 2 / E
    )
    cos_T1F, sin_T1F = angle_TF.cos()[:, None], angle_TF.sin()[:, None]
    a, b = x_THE[..., : E // 2], x_THE[..., E // 2 :]
    return torch.cat([a * cos_T1F - b * sin_T1F, b * cos_T1F + a * sin_T1F], dim=-1)


def plain_logits(weights: Weights, tokens_T: Tensor, mistake: str = "") -> Tensor:
    """Section 2 of the paper, for one text."""

    def scale(name: str) -> Tensor:
        init, scale = INIT_AND_SCALE[name.split()[-1]]
        factor = 1.0 if mistake == "scales worth what is stored" else init / scale
        return weights[name] * factor

    def norm(x: Tensor, unless: str) -> Tensor:
        return x if mistake == unless else unit(x)

    def moved(h_TD: Tensor, branch_TD: Tensor, alpha_D: Tensor) -> Tensor:
        if mistake != "alpha without its sign taken away":
            alpha_D = alpha_D.abs()
        step_TD = norm(branch_TD, "no norm of what a branch writes") - h_TD
        return norm(h_TD + alpha_D * step_TD, "no norm of the stream")

    h_TD = weights["E_in"][tokens_T]
    for layer in range(LAYERS):
        w = {name: weights[f"{layer} {name}"] for name in ("W_q", "W_k", "W_v", "W_o")}
        w |= {name: weights[f"{layer} {name}"] for name in ("W_u", "W_nu", "W_down")}
        s_q_HE = scale(f"{layer} s_q")
        s_k_KE = scale(f"{layer} s_k") if f"{layer} s_k" in weights else s_q_HE
        if mistake == "s_qk of one head for all":
            s_q_HE, s_k_KE = s_q_HE[:1], s_k_KE[:1]
        heads = []
        K = w["W_k"].shape[0] // E
        if mistake == "s_qk before the rotation":
            q_THE = rotated(s_q_HE * unit((h_TD @ w["W_q"].T).view(T, H, E)))
            k_TKE = rotated(s_k_KE * unit((h_TD @ w["W_k"].T).view(T, K, E)))
        else:
            q_THE = s_q_HE * unit(rotated((h_TD @ w["W_q"].T).view(T, H, E)))
            k_TKE = s_k_KE * unit(rotated((h_TD @ w["W_k"].T).view(T, K, E)))
        v_TKE = (h_TD @ w["W_v"].T).view(T, K, E)
        root = E**-0.5 if mistake == "score scale 1/sqrt(d_head)" else E**0.5
        for head in range(H):
            group = head * K // H
            scores_TS = root * q_THE[:, head] @ k_TKE[:, group].T
            for t in range(T):
                weights_S = scores_TS[t, : t + 1].softmax(-1)
                heads.append(weights_S @ v_TKE[: t + 1, group])
        read_TD = torch.stack(heads).view(H, T, E).transpose(0, 1).reshape(T, H * E)
        h_TD = moved(h_TD, read_TD @ w["W_o"].T, scale(f"{layer} alpha_A"))
        widening = 1.0 if mistake == "no sqrt(d_model) on s_nu" else math.sqrt(D)
        u_TF = scale(f"{layer} s_u") * (h_TD @ w["W_u"].T)
        nu_TF = scale(f"{layer} s_nu") * (h_TD @ w["W_nu"].T) * widening
        inner_TF = u_TF * nu_TF / (1 + (-nu_TF).exp())
        h_TD = moved(h_TD, inner_TF @ w["W_down"].T, scale(f"{layer} alpha_M"))
    if mistake == "a norm before the head":
        h_TD = h_TD / (h_TD * h_TD).mean(-1, keepdim=True).sqrt()
    s_z_V = scale("s_z")
    return (s_z_V[:1] if mistake == "one s_z for all tokens" else s_z_V) * (
        h_TD @ weights["E_out"].T
    )


def plain_steps(weights: Weights, texts: list[Tensor], mistake: str = "") -> Weights:
    """Adam without decay, and after each step every matrix back on the sphere."""
    first = {name: torch.zeros_like(w) for name, w in weights.items()}
    second = {name: torch.zeros_like(w) for name, w in weights.items()}
    for step, tokens_T in enumerate(texts, start=1):
        logits_TV = plain_logits(weights, tokens_T[:-1], mistake)
        log_p_TV = logits_TV - logits_TV.exp().sum(-1, keepdim=True).log()
        loss = -log_p_TV[torch.arange(T), tokens_T[1:]].mean()
        gradients = torch.autograd.grad(loss, list(weights.values()))
        for (name, w), gradient in zip(weights.items(), gradients, strict=True):
            first[name] = BETA1 * first[name] + (1 - BETA1) * gradient
            second[name] = BETA2 * second[name] + (1 - BETA2) * gradient**2
            mean, square = first[name] / (1 - BETA1**step), second[name] / (1 - BETA2**step)
            kept = 1 - LR * 0.1 if mistake == "decay" and "s_" in name else 1.0
            moved = kept * w.detach() - LR * mean / (square.sqrt() + EPS)
            weights[name] = held(name.split()[-1], moved, mistake).requires_grad_()
    return weights


def held(name: str, w: Tensor, mistake: str) -> Tensor:
    if name in INIT_AND_SCALE or (name == "E_in" and mistake == "embedding not held"):
        return w
    of_columns = {"W_o": "output", "W_down": "down"}
    wrong = f"{of_columns.get(name)} columns not held but rows"
    return unit(w, dim=0 if name in of_columns and mistake != wrong else 1)


def text(seed: int) -> Tensor:
    return torch.randint(V, (T + 1,), generator=torch.Generator().manual_seed(seed))


def difference_of_logits(gpt: GPT, mistake: str = "") -> float:
    with torch.no_grad():
        expected_TV = plain_logits(weights_of(gpt), text(0)[:-1], mistake)
        return (gpt(text(0)[None, :-1])[0] - expected_TV).abs().max().item()


def difference_after_steps(gpt: GPT, mistake: str = "") -> float:
    """Train both sides; Adam divides by what may be tiny, so gradients must agree to the last."""
    texts = [text(step) for step in range(STEPS)]
    expected = plain_steps(weights_of(gpt), texts, mistake)
    optimizers = AdamW(lr=LR, beta1=BETA1, beta2=BETA2, eps=EPS, weight_decay=0.0).build(gpt)
    for tokens_T in texts:
        gpt.losses(tokens_T[None, :-1], tokens_T[None, 1:])["loss"].backward()
        optimizers.step()
        gpt.after_step()
    got = weights_of(gpt)
    return max((got[name] - expected[name]).abs().max().item() for name in expected)


@pytest.mark.parametrize("changes", [{}, GROUPED], ids=["multi-head", "grouped"])
def test_logits_are_those_of_the_equations(tiny: Tiny, changes: dict[str, Any]):
    gpt = ngpt(tiny, **changes)
    assert gpt(text(0)[None]).std() > 0.1
    assert difference_of_logits(gpt) < 1e-6


@pytest.mark.parametrize("changes", [{}, GROUPED], ids=["multi-head", "grouped"])
def test_training_steps_are_those_of_the_equations(tiny: Tiny, changes: dict[str, Any]):
    assert difference_after_steps(ngpt(tiny, **changes)) < 1e-6


@pytest.mark.parametrize("mistake", MISTAKES_IN_LOGITS)
def test_a_mistake_is_seen_in_the_logits(tiny: Tiny, mistake: str):
    assert difference_of_logits(ngpt(tiny), mistake) > 1e-3


@pytest.mark.parametrize("mistake", MISTAKES_IN_STEP)
def test_a_mistake_is_seen_after_the_steps(tiny: Tiny, mistake: str):
    assert difference_after_steps(ngpt(tiny), mistake) > 1e-3


def test_heads_that_share_keys_have_gains_of_their_own(tiny: Tiny):
    """Multi-head attention has one s_qk, as in the paper; grouped heads have s_q and s_k."""
    shared = [name for name, _ in ngpt(tiny).named_parameters() if ".gain." in name]
    apart = [name for name, _ in ngpt(tiny, **GROUPED).named_parameters() if ".gain." in name]
    assert len(shared) == LAYERS
    assert len(apart) == 2 * LAYERS


def test_an_attention_with_nothing_to_normalize_is_refused(tiny: Tiny):
    attention = NGPT["attention"] | {"qk_norm": None}
    with pytest.raises(ValueError, match=r"qk_norm=null leaves nothing normalized"):
        tiny(**(NGPT | {"attention": attention})).build()


@pytest.mark.parametrize(
    ("part", "name"), [("mlp", r"mlp\.gate\.bias"), ("attention", r"attention\.query\.bias")]
)
def test_biases_are_refused(tiny: Tiny, part: str, name: str):
    with pytest.raises(ValueError, match=rf"unit_norm .* biases such as blocks\.0\.{name}"):
        tiny(**(NGPT | {part: NGPT[part] | {"bias": True}})).build()


def test_a_tied_head_has_no_multiplier_per_token(tiny: Tiny):
    with pytest.raises(ValueError, match="no setting named 's_z_start'"):
        tiny(**(NGPT | {"head": {"type": "tied", "s_z_start": 1.0}}))
