"""Logits equal those of `transformers`' DeepSeek-V3 with the same weights, all layers dense."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from gptlab.kernels.places import Places
from gptlab.model.gpt import GPT, Model
from gptlab.parts.attention.latent import LatentAttention

transformers = pytest.importorskip("transformers")

Tiny = Callable[..., Model]
D, H, L, T, VOCABULARY = 48, 4, 3, 24, 64
CQ, C, N, R, V = 16, 20, 10, 8, 14
ROTARY: dict[str, Any] = {"type": "rotary", "base": 500.0, "layout": "interleaved"}
LATENT: dict[str, Any] = {
    "type": "latent",
    "n_heads": H,
    "d_latent": C,
    "d_query_latent": CQ,
    "d_nope": N,
    "d_rope": R,
    "d_value": V,
}
OURS: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "context_length": T,
    "d_model": D,
    "n_layers": L,
    "positions": ROTARY,
    "norm": {"type": "rms_norm", "eps": 1e-6},
    "attention": LATENT,
    "mlp": {"type": "swiglu", "d_ff": 80},
    "head": "untied",
}
YARN_HERE = {"type": "yarn", "factor": 4.0, "original_length": 6, "magnitude": 1.0}
SCALE = (N + R) ** -0.5
MSCALE = 0.1 * 1.3862943611198906 + 1  # 0.1 ln(4) + 1
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "V3": ({}, {}),
    "V2-Lite": ({"q_lora_rank": None}, {"attention": LATENT | {"d_query_latent": None}}),
    "YaRN": (
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 500.0,
                "factor": 4.0,
                "original_max_position_embeddings": 6,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
            }
        },
        {
            "positions": ROTARY | {"scaling": YARN_HERE},
            "attention": LATENT | {"scale": SCALE * MSCALE**2},
        },
    ),
}
OUR_NAMES = {
    "model.embed_tokens": "embedding",
    "model.norm": "ends.norm",
    "lm_head": "head.matrix",
    "model.layers": "blocks",
    "self_attn.q_proj": "attention.query",
    "self_attn.q_a_proj": "attention.query.0",
    "self_attn.q_a_layernorm": "attention.query.1",
    "self_attn.q_b_proj": "attention.query.2",
    "self_attn.kv_a_layernorm": "attention.latent.1",
    "self_attn.o_proj": "attention.output",
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.up",
    "mlp.down_proj": "mlp.down",
    "input_layernorm": "residual.norms.0",
    "post_attention_layernorm": "residual.norms.1",
}


def their_model(family: str) -> Any:
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": D,
        "intermediate_size": 80,
        "num_hidden_layers": L,
        "first_k_dense_replace": L,
        "num_attention_heads": H,
        "num_key_value_heads": H,
        "q_lora_rank": CQ,
        "kv_lora_rank": C,
        "qk_nope_head_dim": N,
        "qk_rope_head_dim": R,
        "v_head_dim": V,
        "max_position_embeddings": T,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
        "attn_implementation": "eager",
        "use_cache": False,
    }
    config = transformers.DeepseekV3Config(**settings | FAMILIES[family][0])
    model = transformers.DeepseekV3ForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if "norm" in name else 0.15 * noise)
    return model


def our_weights(model: Any) -> dict[str, Tensor]:
    """Their weights under our names; what they keep in one matrix is cut in two."""
    weights = {}
    for name, value in model.state_dict().items():
        for their_name, our_name in OUR_NAMES.items():
            name = name.replace(f"{their_name}.", f"{our_name}.")
        layer, _, rest = name.partition(".self_attn.")
        if rest == "kv_a_proj_with_mqa.weight":
            weights[f"{layer}.attention.latent.0.weight"] = value[:C]
            weights[f"{layer}.attention.shared_key.weight"] = value[C:]
        elif rest == "kv_b_proj.weight":
            key_HNC, value_HVC = value.unflatten(0, (H, N + V)).split([N, V], dim=1)
            weights[f"{layer}.attention.key.weight"] = key_HNC.flatten(0, 1)
            weights[f"{layer}.attention.value.weight"] = value_HVC.flatten(0, 1)
        else:
            weights[name] = value
    return weights


def our_model(tiny: Tiny, model: Any, settings: dict[str, Any]) -> GPT:
    gpt = tiny(**OURS | settings).build().eval()
    gpt.load_state_dict(our_weights(model))
    return gpt


def text() -> Tensor:
    return torch.randint(VOCABULARY, (3, T), generator=torch.Generator().manual_seed(1))


def decoded(gpt: GPT) -> Tensor:
    """Logits of a prompt of 9 tokens, then token by token."""
    caches = gpt.new_caches(T)
    pieces = [(0, 9), *((t, t + 1) for t in range(9, T))]
    return torch.cat(
        [gpt(text()[:, a:b], Places.counted(a, b, torch.device("cpu")), caches) for a, b in pieces],
        dim=1,
    )


@torch.no_grad()
def furthest(model: Any, logits_BTV: Tensor) -> float:
    expected_BTV = model(text()).logits
    assert 0.5 < expected_BTV.std() < 2
    return (logits_BTV - expected_BTV).abs().max().item()


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_logits_are_theirs_at_once_and_decoded(tiny: Tiny, family: str):
    model = their_model(family)
    gpt = our_model(tiny, model, FAMILIES[family][1])
    assert furthest(model, gpt(text())) <= 2e-5
    assert furthest(model, decoded(gpt)) <= 2e-5


MUTATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "rotation of halves": ("V3", {"positions": ROTARY | {"layout": "half"}}),
    "scale of d_nope only": ("V3", {"attention": LATENT | {"scale": N**-0.5}}),
    "scale without mscale": ("YaRN", {"attention": LATENT}),
    "mscale, not squared": ("YaRN", {"attention": LATENT | {"scale": SCALE * MSCALE}}),
    "YaRN's factor in the rotation": (
        "YaRN",
        {"positions": ROTARY | {"scaling": YARN_HERE | {"magnitude": None}}},
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
@torch.no_grad()
def test_a_mistake_would_show(tiny: Tiny, name: str):
    family, changes = MUTATIONS[name]
    model = their_model(family)
    gpt = our_model(tiny, model, FAMILIES[family][1] | changes)
    assert furthest(model, gpt(text())) > 1e-3
    assert furthest(model, decoded(gpt)) > 1e-3


def latent_layers(gpt: GPT) -> list[LatentAttention]:
    return [mixer for mixer in gpt.mixers() if isinstance(mixer, LatentAttention)]


@torch.no_grad()
def test_remembering_latents_before_their_norm_would_show(tiny: Tiny):
    model = their_model("V3")
    gpt = our_model(tiny, model, {})
    for mixer in latent_layers(gpt):
        mixer.latent[1] = nn.Identity()
    assert furthest(model, decoded(gpt)) > 1e-3


@torch.no_grad()
def test_a_norm_on_the_shared_key_would_show(tiny: Tiny):
    model = their_model("V3")
    gpt = our_model(tiny, model, {})

    def norm(layer: nn.Module, args: Any, key_BTR: Tensor) -> Tensor:
        return rms_norm(key_BTR, (R,))

    for mixer in latent_layers(gpt):
        mixer.shared_key.register_forward_hook(norm)
    assert furthest(model, decoded(gpt)) > 1e-3
