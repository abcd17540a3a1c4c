"""Every family's logits equal those of `transformers`, and its folders load there, and here again.

A checkpoint of each is made at random, with norms and biases away from where they start, and saved
by `save_pretrained`. A deliberate mistake in our model must show in the same comparison.
"""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from gptlab.interop.families import families
from gptlab.interop.folder import Folder
from gptlab.interop.matching import choose_family
from gptlab.interop.reading import read_settings, read_weights
from gptlab.interop.writing import write_config, write_weights
from gptlab.model.gpt import GPT, Model

transformers = pytest.importorskip("transformers")

T, V, WINDOW = 24, 64, 5
SIZES = {
    "vocab_size": V,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": T,
}
WHOLE_HEADS = {
    name: SIZES[name] for name in SIZES if name not in ("head_dim", "num_key_value_heads")
}
ROPE = {"rope_type": "default", "rope_theta": 500.0}
BIG_EPS = {"norm.eps": 1e-2}


class Case(NamedTuple):
    """A config of theirs, and changes to our model of it, each of which must show."""

    settings: dict[str, Any]
    mistakes: list[dict[str, Any]]


def scaled(rope_type: str, **settings: Any) -> dict[str, Any]:
    return SIZES | {"rope_parameters": {"rope_type": rope_type, "rope_theta": 500.0} | settings}


CASES = {
    "gpt2": Case(
        {"vocab_size": V, "n_positions": T, "n_embd": 48, "n_layer": 3, "n_head": 4},
        [{"mlp.approximate": "none"}, {"norm.eps": 1e-2}, {"attention.n_heads": 2}],
    ),
    "gpt2 exact gelu": Case(
        {"vocab_size": V, "n_positions": T, "n_embd": 48, "n_layer": 2, "n_head": 4}
        | {"n_inner": 72, "activation_function": "gelu", "tie_word_embeddings": False},
        [{"mlp.approximate": "tanh"}],
    ),
    "llama": Case(
        SIZES | {"rope_parameters": ROPE},
        [
            {"positions.layout": "interleaved"},
            {"positions.base": 501.0},
            {"mlp": {"type": "geglu", "d_ff": 80}},
            BIG_EPS,
        ],
    ),
    "llama biases tied": Case(
        SIZES | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
        [{"positions.base": 9000.0}],
    ),
    "llama linear": Case(scaled("linear", factor=3.0), [{"positions.scaling.factor": 2.0}]),
    "llama dynamic": Case(
        scaled("dynamic", factor=2.0) | {"max_position_embeddings": T // 2},
        [{"positions.scaling.factor": 1.0}],
    ),
    "llama yarn": Case(
        scaled("yarn", factor=4.0, original_max_position_embeddings=6, beta_fast=2, beta_slow=0.1),
        [{"positions.scaling.magnitude": 1.0}, {"positions.scaling.factor": 3.0}],
    ),
    "llama llama3": Case(
        scaled("llama3", factor=8.0, original_max_position_embeddings=8)
        | {"max_position_embeddings": 64},
        [{"positions.scaling.low_freq_factor": 0.1}],
    ),
    "llama longrope": Case(
        scaled(
            "longrope",
            original_max_position_embeddings=12,
            short_factor=[1.0] * 8,
            long_factor=[1.0 + i for i in range(8)],
        ),
        [{"positions.scaling.magnitude": 1.0}],
    ),
    "mistral": Case(
        SIZES | {"sliding_window": WINDOW},
        [{"attention.window": WINDOW + 1}, {"attention.window": None}],
    ),
    "qwen2": Case(
        SIZES | {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
        [{"attention.window": WINDOW - 1}, {"positions.base": 9000.0}],
    ),
    "qwen3": Case(
        SIZES | {"attention_bias": True},
        [{"attention.qk_norm_after_rotation": True}, {"attention.qk_norm.eps": 0.1}],
    ),
    "smollm3": Case(
        SIZES
        | {
            "pad_token_id": None,
            "no_rope_layers": [1, 0, 1],
            "use_sliding_window": True,
            "sliding_window": WINDOW,
        },
        [{"attention.positions": None}, {"attention.window": None}],
    ),
    "gemma2": Case(
        SIZES
        | {"sliding_window": WINDOW, "query_pre_attn_scalar": 20}
        | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
        [
            {"attention.window": WINDOW + 1},
            {"norm.offset": False},
            {"attention.softcap": None},
            {"head.softcap": None},
            {"attention.scale": None},
            {"embedding_scale": None},
            {"mlp": {"type": "swiglu", "d_ff": 80}},
        ],
    ),
    "gemma3_text": Case(
        SIZES
        | {"sliding_window": WINDOW, "query_pre_attn_scalar": 20, "num_hidden_layers": 7}
        | {"layer_types": [*["sliding_attention"] * 5, "full_attention", "sliding_attention"]},
        [
            {"attention.window": WINDOW - 1},
            {"attention.qk_norm.offset": False},
            {"attention.qk_norm_after_rotation": True},
            {"attention.positions": None},
        ],
    ),
    "gemma3_text of global layers": Case(
        SIZES | {"query_pre_attn_scalar": 16, "layer_types": ["full_attention"] * 3},
        [{"positions.base": 10_000.0}],
    ),
    "olmo2": Case(
        SIZES,
        [{"residual": "pre_norm"}, {"attention.qk_norm_after_rotation": True}, {"norm.eps": 1e-2}],
    ),
    "granite": Case(
        SIZES
        | {"embedding_multiplier": 1.5, "residual_multiplier": 0.7}
        | {"attention_multiplier": 0.3, "logits_scaling": 2.0},
        [
            {"embedding_scale": None},
            {"residual": "pre_norm"},
            {"attention.scale": None},
            {"head.scale": None},
        ],
    ),
    "cohere2": Case(
        WHOLE_HEADS
        | {"num_key_value_heads": 2, "num_hidden_layers": 5, "sliding_window": WINDOW}
        | {"logit_scale": 0.5},
        [
            {"positions.layout": "half"},
            {"attention.positions": None},
            {"attention.window": WINDOW + 1},
            {"head.scale": None},
            {"norm": "rms_norm"},
        ],
    ),
    "nanochat": Case(
        {**SIZES, "final_logit_softcapping": 2.0},
        [
            {"head.softcap": None},
            {"mlp": {"type": "gelu", "d_ff": 80}},
            {"embedding_norm": None},
            {"positions.layout": "interleaved"},
        ],
    ),
    "phi3": Case(
        SIZES
        | {"rope_parameters": ROPE | {"partial_rotary_factor": 0.5}, "sliding_window": WINDOW}
        | {"pad_token_id": None},
        [{"positions.fraction": 0.25}, {"attention.window": WINDOW + 1}],
    ),
    "gpt_neox": Case(
        WHOLE_HEADS | {"rope_parameters": ROPE | {"partial_rotary_factor": 0.5}},
        [{"positions.fraction": 1.0}, {"mlp.approximate": "tanh"}, {"residual": "pre_norm"}],
    ),
    "gpt_neox one after the other": Case(
        WHOLE_HEADS
        | {"use_parallel_residual": False, "hidden_act": "gelu_new", "attention_bias": False}
        | {"rope_parameters": ROPE | {"partial_rotary_factor": 1.0}},
        [{"residual": {"type": "parallel", "own_norms": True}}],
    ),
}
LONG = {"rope_type": "longrope", "rope_theta": 500.0, "partial_rotary_factor": 0.5}
LONG |= {"short_factor": [1.0, 1.5, 2.0], "long_factor": [1.0, 3.0, 5.0]}
PHI = {name: value for name, value in SIZES.items() if name != "head_dim"} | {
    "pad_token_id": None,
    "partial_rotary_factor": 0.5,
    "rope_parameters": LONG,
}
CASES |= {
    "phi3 long list": Case(
        PHI | {"original_max_position_embeddings": T // 2, "tie_word_embeddings": True},
        [{"positions.scaling.factors": (1.0, 1.5, 2.0)}, {"positions.scaling.magnitude": 1.0}],
    ),
    "phi3 short list": Case(
        PHI | {"original_max_position_embeddings": T},
        [{"positions.scaling.factors": (1.0, 3.0, 5.0)}],
    ),
    "nanochat biases": Case(
        {**SIZES, "attention_bias": True, "rope_parameters": ROPE, "rms_norm_eps": 1e-3},
        [
            {"norm.eps": 1e-6},
            {"attention.qk_norm": None, "attention.qk_norm_after_rotation": False},
        ],
    ),
}
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "beta_fast": 2, "beta_slow": 0.1}
YARN |= {"original_max_position_embeddings": 6}
OSS = SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": WINDOW}
QWEN = SIZES | {"num_local_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 40}
CASES |= {
    "mixtral": Case(
        SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2, "rope_parameters": ROPE},
        [
            {"mlp.renormalize": False},
            {"mlp.top_k": 3},
            {"mlp.expert": {"type": "geglu", "d_ff": 80}},
            BIG_EPS,
        ],
    ),
    "mixtral windows": Case(
        SIZES | {"num_local_experts": 11, "num_experts_per_tok": 3, "sliding_window": WINDOW},
        [{"attention.window": WINDOW + 1}, {"attention.window": WINDOW - 1}],
    ),
    "qwen3_moe": Case(
        QWEN | {"norm_topk_prob": True, "rope_parameters": ROPE},
        [
            {"mlp.renormalize": False},
            {"mlp.score": "sigmoid"},
            {"attention.qk_norm_after_rotation": True},
            {"attention.qk_norm.eps": 1e-2},
            {"positions.base": 501.0},
        ],
    ),
    "qwen3_moe all weights, windows, dense first layers": Case(
        QWEN
        | {"mlp_only_layers": [0, 1], "attention_bias": True, "tie_word_embeddings": True}
        | {"use_sliding_window": True, "sliding_window": WINDOW},
        [{"mlp.renormalize": True}, {"attention.window": WINDOW + 1}],
    ),
    "gpt_oss": Case(
        OSS | {"rope_parameters": YARN | {"truncate": False}},
        [
            {"attention.window": WINDOW + 1},
            {"positions.scaling.truncate": True},
            {"positions.scaling.magnitude": 1.0},
            {"mlp.expert.alpha": 1.6},
            {"mlp.expert.limit": 0.5},
            {"mlp.renormalize": False},
        ],
    ),
    "gpt_oss other windows, limits, no biases": Case(
        OSS
        | {"rope_parameters": ROPE, "swiglu_limit": 0.5, "swiglu_alpha": 1.3}
        | {"attention_bias": False, "tie_word_embeddings": True}
        | {"layer_types": ["full_attention", "full_attention", "sliding_attention"]},
        [{"mlp.expert.limit": 7.0}, {"mlp.expert.alpha": 1.702}],
    ),
}
DEEPSEEK = {name: value for name, value in SIZES.items() if name != "head_dim"} | {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 20,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 8,
    "v_head_dim": 14,
    "n_routed_experts": 12,
    "num_experts_per_tok": 3,
    "n_group": 4,
    "topk_group": 2,
    "moe_intermediate_size": 24,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "rope_parameters": ROPE,
}
CASES |= {
    "deepseek_v3": Case(
        DEEPSEEK,
        [
            {"positions.layout": "half"},
            {"attention.scale": 10**-0.5},
            {"mlp.top_groups": 3},
            {"mlp.routed_scale": 1.0},
            {"mlp.renormalize": False},
            {"mlp.score": "softmax"},
        ],
    ),
    "deepseek_v3 YaRN, queries out of the stream, all weights, halves": Case(
        DEEPSEEK
        | {"rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}}
        | {"q_lora_rank": None, "norm_topk_prob": False, "rope_interleave": False}
        | {"n_group": 1, "topk_group": 1, "tie_word_embeddings": True},
        [
            {"attention.scale": 18**-0.5},
            {"positions.scaling.magnitude": None},
            {"positions.layout": "interleaved"},
        ],
    ),
}
CASES["deepseek_v3 all layers with experts, YaRN in the rotation"] = Case(
    DEEPSEEK | {"first_k_dense_replace": 0, "rope_parameters": YARN},
    [{"positions.scaling.magnitude": 1.0}],
)
CASES["llama llama3"].settings["rope_parameters"] |= {"low_freq_factor": 1, "high_freq_factor": 4}


class Sample(NamedTuple):
    theirs: Any
    folder: Path


def perturb(model: Any) -> None:
    """Move every parameter away from where it starts, so that leaving one out would show."""
    generator = torch.Generator().manual_seed(0)
    weights = {weight.data_ptr(): weight for weight in model.state_dict().values()}
    with torch.no_grad():
        for weight in weights.values():
            weight += 0.15 * torch.randn(weight.shape, generator=generator)
    model.tie_weights()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Sample]:
    """Make the checkpoint of a case, once."""
    made: dict[str, Sample] = {}

    def make(case: str) -> Sample:
        if case not in made:
            torch.manual_seed(0)
            config = transformers.AutoConfig.for_model(
                case.split()[0], **deepcopy(CASES[case].settings)
            )
            config._attn_implementation = "eager"
            config.use_cache = False
            model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
            perturb(model)
            folder = tmp_path_factory.mktemp("theirs")
            model.save_pretrained(folder)
            made[case] = Sample(model, folder)
        return made[case]

    return make


def read(folder: Path) -> tuple[Model, GPT]:
    family, model = read_settings(Folder(folder))
    return model, read_weights(Folder(folder), family, model).eval()


def write(folder: Path, model: Model, gpt: GPT) -> None:
    family, config = choose_family(model)
    write_config(folder, family, config)
    write_weights(folder, gpt, model, family, config)


def tokens() -> Tensor:
    return torch.randint(V, (3, T), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def difference(theirs: Any, ours: GPT) -> float:
    """The largest difference between logits, whose deviation is about 1."""
    expected_BTV = theirs(tokens()).logits
    assert 0.3 < expected_BTV.std() < 3
    return (ours(tokens()) - expected_BTV).abs().max().item()


def changed(part: Any, path: list[str], value: Any) -> Any:
    """Change a setting below a config, in all entries of a list on the way."""
    if not path:
        return value
    if isinstance(part, tuple):
        return tuple(changed(each, path, value) for each in part)
    name = path[0] if path[0] in type(part).model_fields else "of"
    return part.but(**{name: changed(getattr(part, name), path[name == path[0] :], value)})


@pytest.mark.parametrize("case", CASES)
def test_logits_are_theirs(case: str, samples: Callable[[str], Sample]):
    theirs, folder = samples(case)
    _, gpt = read(folder)
    assert difference(theirs, gpt) <= 2e-5


@pytest.mark.parametrize(
    ("case", "mistake"),
    [(case, mistake) for case in CASES for mistake in CASES[case].mistakes],
    ids=str,
)
def test_a_mistake_would_show(case: str, mistake: dict[str, Any], samples: Callable[[str], Sample]):
    theirs, folder = samples(case)
    family, model = read_settings(Folder(folder))
    for path, value in mistake.items():
        model = changed(model, path.split("."), value)
    gpt = read_weights(Folder(folder), family, model).eval()
    assert difference(theirs, gpt) > 2e-4


@pytest.mark.parametrize("case", CASES)
def test_written_it_is_read_as_the_same_here_and_there(
    case: str, samples: Callable[[str], Sample], tmp_path: Path
):
    theirs, folder = samples(case)
    model, gpt = read(folder)
    write(tmp_path, model, gpt)
    again, copy = read(tmp_path)
    assert again == model
    weights = copy.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in gpt.state_dict().items())
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, attn_implementation="eager"
    )
    assert type(loaded) is type(theirs)
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens()).logits, theirs(tokens()).logits)


@torch.no_grad()
def test_a_rotation_the_other_way_would_show(samples: Callable[[str], Sample]):
    theirs, folder = samples("nanochat")
    _, gpt = read(folder)
    for name, weight in gpt.named_parameters():
        if name.endswith(("attention.query.weight", "attention.key.weight")):
            weight.copy_(weight.unflatten(0, (-1, 2, 8)).flip(1).flatten(0, 2))
    assert difference(theirs, gpt) > 2e-4


@torch.no_grad()
def test_a_forgotten_bias_of_the_router_would_show(samples: Callable[[str], Sample]):
    theirs, folder = samples("deepseek_v3")
    _, gpt = read(folder)
    for name, buffer in gpt.named_buffers():
        if name.endswith("bias_X"):
            buffer.zero_()
    assert difference(theirs, gpt) > 2e-4


@pytest.mark.parametrize("case", ["mixtral", "qwen3_moe", "deepseek_v3"])
def test_experts_may_lie_stacked(case: str, samples: Callable[[str], Sample], tmp_path: Path):
    theirs, folder = samples(case)
    theirs.save_pretrained(tmp_path, save_original_format=False)
    _, gpt = read(folder)
    _, stacked = read(tmp_path)
    weights = stacked.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in gpt.state_dict().items())


def test_every_family_is_compared():
    assert {case.split()[0] for case in CASES} == set(families())
