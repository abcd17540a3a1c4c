"""Logits equal those of `transformers`' GPT-2 with the same weights.

Norms and biases are perturbed, or a mistake in them would not show; what must show is tested too.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.kernels.places import Places
from gptlab.model.gpt import GPT, Model

transformers = pytest.importorskip("transformers")

Tiny = Callable[..., Model]
D, L, T, V = 48, 3, 40, 64
SETTINGS: dict[str, Any] = {
    "vocab_size": V,
    "context_length": T,
    "d_model": D,
    "n_layers": L,
    "attention": {"type": "grouped_query", "n_heads": 4, "bias": True},
    "mlp": {"type": "gelu", "bias": True},
}


@pytest.fixture(scope="module")
def theirs() -> Any:
    config = transformers.GPT2Config(
        vocab_size=V,
        n_positions=T,
        n_embd=D,
        n_layer=L,
        n_head=4,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            start = 1.0 if parameter.ndim == 1 and parameter.mean() == 1 else 0.0  # a norm's gain
            parameter.copy_(start + 0.15 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture
def weights(theirs: Any) -> dict[str, Tensor]:
    """Their weights under our names."""
    their = {name.removeprefix("transformer."): w for name, w in theirs.state_dict().items()}
    ours = {"embedding.weight": their["wte.weight"], "positions.table.weight": their["wpe.weight"]}
    names = {
        "attn.c_proj": "attention.output",
        "mlp.c_fc": "mlp.up",
        "mlp.c_proj": "mlp.down",
        "ln_1": "residual.norms.0",
        "ln_2": "residual.norms.1",
    }
    for kind in ("weight", "bias"):
        ours[f"ends.norm.{kind}"] = their[f"ln_f.{kind}"]
        for layer in range(L):
            block = f"blocks.{layer}"
            fused = their[f"h.{layer}.attn.c_attn.{kind}"].chunk(3, dim=-1)
            for name, part in zip(("query", "key", "value"), fused, strict=True):
                ours[f"{block}.attention.{name}.{kind}"] = transposed(part)
            for name, our_name in names.items():
                ours[f"{block}.{our_name}.{kind}"] = transposed(their[f"h.{layer}.{name}.{kind}"])
    return ours


def transposed(value: Tensor) -> Tensor:
    """Make of a Conv1D's matrix, (in, out), a Linear's; vectors stay as they are."""
    return value.T if value.ndim == 2 else value


def build(tiny: Tiny, weights: dict[str, Tensor], **changes: Any) -> GPT:
    """Build our model of their weights, without those that a change has no place for."""
    gpt = tiny(**SETTINGS | changes).build().eval()
    names = gpt.state_dict().keys()
    gpt.load_state_dict({name: value for name, value in weights.items() if name in names})
    return gpt


def tokens(length: int = T) -> Tensor:
    return torch.randint(V, (3, length), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def furthest(theirs: Any, logits_BTV: Tensor) -> float:
    """The largest difference from their logits, which have a deviation of about 1."""
    expected_BTV = theirs(tokens(logits_BTV.shape[1])).logits
    assert 0.5 < expected_BTV.std() < 2
    return (logits_BTV - expected_BTV).abs().max().item()


@pytest.mark.parametrize("length", [1, 2, T - 1, T])
def test_logits_are_those_of_gpt2(tiny: Tiny, theirs: Any, weights: dict[str, Tensor], length: int):
    gpt = build(tiny, weights)
    assert gpt.state_dict().keys() == weights.keys()
    assert furthest(theirs, gpt(tokens(length))) <= 2e-5


def test_the_loss_is_that_of_gpt2(tiny: Tiny, theirs: Any, weights: dict[str, Tensor]):
    loss = build(tiny, weights).loss(tokens()[:, :-1], tokens()[:, 1:])
    torch.testing.assert_close(loss, theirs(tokens(), labels=tokens()).loss)


def test_gradients_are_those_of_gpt2(tiny: Tiny, theirs: Any, weights: dict[str, Tensor]):
    gpt = build(tiny, weights)
    gpt.loss(tokens()[:, :-1], tokens()[:, 1:]).backward()
    theirs.zero_grad()
    theirs(tokens(), labels=tokens()).loss.backward()
    for ours, their in (
        (gpt.embedding.weight, theirs.transformer.wte.weight),
        (gpt.get_parameter("positions.table.weight"), theirs.transformer.wpe.weight),
        (gpt.get_parameter("blocks.0.mlp.up.bias"), theirs.transformer.h[0].mlp.c_fc.bias),
    ):
        torch.testing.assert_close(ours.grad, their.grad, rtol=1e-4, atol=1e-6)


MUTATIONS: dict[str, dict[str, Any]] = {
    "exact GELU": {"mlp": {"type": "gelu", "bias": True, "approximate": "none"}},
    "eps of 1e-3": {"norm": {"type": "layer_norm", "eps": 1e-3}},
    "norms without biases": {"norm": {"type": "layer_norm", "bias": False}},
    "attention without biases": {"attention": {"type": "grouped_query", "n_heads": 4}},
    "MLP without biases": {"mlp": "gelu"},
    "norms after the branches": {"residual": "post_norm"},
    "twice the heads": {"attention": SETTINGS["attention"] | {"n_heads": 8}},
    "a window of T - 1": {"attention": SETTINGS["attention"] | {"window": T - 1}},
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_would_show(tiny: Tiny, theirs: Any, weights: dict[str, Tensor], name: str):
    assert furthest(theirs, build(tiny, weights, **MUTATIONS[name])(tokens())) > 5e-4


def test_shifted_positions_would_show(tiny: Tiny, theirs: Any, weights: dict[str, Tensor]):
    gpt = build(tiny, weights)
    assert furthest(theirs, gpt(tokens(T - 1), Places.counted(1, T))) > 0.1
