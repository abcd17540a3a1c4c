"""Logits equal those of `transformers`' Gemma 2 with the same weights.

Where Gemma keeps gains as offsets from 1 and multiplies embeddings by sqrt(d_model), its weights
are converted; its tied head is an untied one of ours, with the same matrix before multiplying.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.model.gpt import Model

transformers = pytest.importorskip("transformers")

Tiny = Callable[..., Model]
D, H, K, E, L, T, V, WINDOW = 48, 4, 2, 16, 3, 24, 64, 5
FULL = {
    "type": "grouped_query",
    "n_heads": H,
    "n_kv_heads": K,
    "d_head": E,
    "scale": 30**-0.5,
    "softcap": 3.0,
}
LOCAL = FULL | {"window": WINDOW}
OURS: dict[str, Any] = {
    "vocab_size": V,
    "context_length": T,
    "d_model": D,
    "n_layers": L,
    "positions": {"type": "rotary", "base": 500.0},
    "norm": {"type": "rms_norm", "eps": 1e-6},
    "attention": {"type": "alternating", "of": [LOCAL, FULL]},
    "mlp": {"type": "geglu", "d_ff": 80},
    "residual": "sandwich",
    "head": {"type": "untied", "softcap": 4.0},
}
OUR_NAMES = {
    "model.embed_tokens": "embedding",
    "model.norm": "ends.norm",
    "lm_head": "head.matrix",
    "model.layers": "blocks",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.o_proj": "attention.output",
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.up",
    "mlp.down_proj": "mlp.down",
    "input_layernorm": "residual.norms.0",
    "post_attention_layernorm": "residual.output_norms.0",
    "pre_feedforward_layernorm": "residual.norms.1",
    "post_feedforward_layernorm": "residual.output_norms.1",
}


@pytest.fixture(scope="module")
def theirs() -> Any:
    config = transformers.Gemma2Config(
        vocab_size=V,
        hidden_size=D,
        intermediate_size=80,
        num_hidden_layers=L,
        num_attention_heads=H,
        num_key_value_heads=K,
        head_dim=E,
        query_pre_attn_scalar=30,
        attn_logit_softcapping=3.0,
        final_logit_softcapping=4.0,
        sliding_window=WINDOW,
        max_position_embeddings=T,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        attn_implementation="eager",
        use_cache=False,
    )
    model = transformers.Gemma2ForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
    model.tie_weights()
    return model


def our_weights(model: Any) -> dict[str, Tensor]:
    weights = {}
    for name, value in model.state_dict().items():
        for their_name, our_name in OUR_NAMES.items():
            name = name.replace(their_name, our_name)
        weights[name] = value + 1 if "norm" in name else value
    return weights | {"embedding.weight": D**0.5 * weights["embedding.weight"]}


@torch.no_grad()
def furthest(tiny: Tiny, model: Any, **changes: Any) -> float:
    gpt = tiny(**OURS | changes).build().eval()
    gpt.load_state_dict(our_weights(model))
    tokens_BT = torch.randint(V, (3, T), generator=torch.Generator().manual_seed(1))
    expected_BTV = model(tokens_BT).logits
    assert 0.5 < expected_BTV.std() < 2
    return (gpt(tokens_BT) - expected_BTV).abs().max().item()


def test_logits_are_theirs(tiny: Tiny, theirs: Any):
    assert furthest(tiny, theirs) <= 2e-5


def taking_turns(*of: dict[str, Any]) -> dict[str, Any]:
    return {"attention": {"type": "alternating", "of": list(of)}}


MUTATIONS: dict[str, dict[str, Any]] = {
    "full attention first": taking_turns(FULL, LOCAL),
    "window + 1": taking_turns(LOCAL | {"window": WINDOW + 1}, FULL),
    "no softcap in full layers": taking_turns(LOCAL, FULL | {"softcap": None}),
    "no softcap in local layers": taking_turns(LOCAL | {"softcap": None}, FULL),
    "scale of d_head": taking_turns(LOCAL | {"scale": None}, FULL | {"scale": None}),
    "no softcap of logits": {"head": "untied"},
    "SwiGLU": {"mlp": {"type": "swiglu", "d_ff": 80}},
}


@pytest.mark.parametrize("changes", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_a_mistake_would_show(tiny: Tiny, theirs: Any, changes: dict[str, Any]):
    assert furthest(tiny, theirs, **changes) > 1e-3
