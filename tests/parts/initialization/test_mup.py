"""The coordinate check of muP (arXiv:2203.03466, figure 5).

A few steps of one learning rate change what is computed inside by as much at any width; under
another rule, or with one of muP's switched off, the change grows or shrinks with the width.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gptlab.model.gpt import GPT, Model
from gptlab.parts.initialization import Initialization, Matrix
from gptlab.parts.initialization.mup import MuP
from gptlab.parts.layers import Linear
from gptlab.train.optimizers import Optimizer

Tiny = Callable[..., Model]
BASE, WIDTHS, D_HEAD, T = 64, (64, 128, 256, 512), 16, 16
MUP = {"type": "mup", "base_width": BASE}
ADAMW = {"type": "adamw", "lr": 1e-2, "weight_decay": 0}
MUON = {"type": "muon", "lr": 1e-2, "adamw_lr": 1e-9, "weight_decay": 0}  # hidden matrices alone


def growth(tiny: Tiny, optimizer: dict[str, Any], **parts: Any) -> dict[str, float]:
    """How much larger the changes are in the widest model than in the narrowest."""
    narrowest, *_, widest = (changes(build(tiny, width, **parts), optimizer) for width in WIDTHS)
    return {name: widest[name] / narrowest[name] for name in narrowest}


def build(tiny: Tiny, width: int, **parts: Any) -> GPT:
    attention = {"type": "grouped_query", "d_head": D_HEAD, "n_heads": width // D_HEAD}
    sizes = {"d_model": width, "attention": attention, "positions": "rotary", "norm": "rms_norm"}
    return tiny(**({"head": "untied", "initialization": MUP} | sizes | parts)).build(seed=1)


def changes(gpt: GPT, optimizer: dict[str, Any]) -> dict[str, float]:
    """Train for a few steps; give how much each branch's output and the logits changed (RMS)."""
    tokens_BT = torch.randint(31, (4, T + 1), generator=torch.Generator().manual_seed(0))
    before = outputs(gpt, tokens_BT[:, :-1])
    optimizers = Optimizer.parse(optimizer).build(gpt)
    for _ in range(4):
        gpt.loss(tokens_BT[:, :-1], tokens_BT[:, 1:]).backward()
        optimizers.step()
    after = outputs(gpt, tokens_BT[:, :-1])
    return {name: (after[name] - before[name]).square().mean().sqrt().item() for name in before}


@torch.no_grad()
def outputs(gpt: GPT, tokens_BT: Tensor) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    with noting(gpt, seen):
        seen["logits"] = gpt(tokens_BT)
    return seen


@contextmanager
def noting(gpt: GPT, seen: dict[str, Tensor]) -> Iterator[None]:
    def note(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, given, output: seen.update({name: output})

    branches = [name for name, _ in gpt.named_modules() if name.endswith((".attention", ".mlp"))]
    hooks = [gpt.get_submodule(name).register_forward_hook(note(name)) for name in branches]
    yield
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("head", ["untied", "tied"])
def test_changes_are_as_large_at_any_width(tiny: Tiny, head: str):
    ratios = growth(tiny, ADAMW, head=head)
    assert len(ratios) == 5
    assert min(ratios.values()) > 0.6
    assert max(ratios.values()) < 1.5


@pytest.mark.parametrize("initialization", ["gpt2", "fan_in"])
def test_under_another_rule_they_grow(tiny: Tiny, initialization: str):
    ratios = growth(tiny, ADAMW, initialization=initialization)
    assert ratios.pop("logits") > 2
    assert min(ratios.values()) > 4


def test_without_the_learning_rates_they_grow(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(MuP, "lr_factor", Initialization.lr_factor)
    ratios = growth(tiny, ADAMW)
    assert min(ratios[name] for name in ratios if name != "logits") > 4


@pytest.mark.parametrize("head", ["untied", "tied"])
def test_without_the_division_logits_grow(tiny: Tiny, head: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(MuP, "logit_factor", Initialization.logit_factor)
    assert growth(tiny, ADAMW, head=head)["logits"] > 2


def test_hidden_matrices_change_as_much_under_muon(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    """By the root of the factor: with all of it changes shrink, with none of it they grow."""
    first = "blocks.0.mlp"
    assert 0.8 < growth(tiny, MUON)[first] < 1.25
    monkeypatch.setattr(MuP, "lr_factor", lambda self, matrix: (BASE / matrix.d_model) ** 2)
    assert growth(tiny, MUON)[first] < 0.7
    monkeypatch.setattr(MuP, "lr_factor", Initialization.lr_factor)
    assert growth(tiny, MUON)[first] > 1.4


def test_the_rule_by_role():
    mup, m = MuP(base_width=100, scale=0.5), 4

    def matrix(role: Any) -> Matrix:
        return Matrix(role, fan_in=900, fan_out=7, layer=0, n_layers=1, d_model=100 * m)

    for role in ("embedding", "position", "head"):
        assert (mup.std(matrix(role)), mup.lr_factor(matrix(role))) == (0.5, 1.0)
    for role in ("input", "output"):
        assert (mup.std(matrix(role)), mup.lr_factor(matrix(role))) == (1 / 30, 1 / m)
    for role in ("mixing", "router"):
        assert (mup.std(matrix(role)), mup.lr_factor(matrix(role))) == (1 / 60, 1 / m)
    assert mup.logit_factor(100 * m) == 1 / m


@torch.no_grad()
def test_logits_are_divided_in_a_loaded_model_too(tiny: Tiny):
    """What is built without values, to be filled from a checkpoint, divides all the same."""
    model = tiny(initialization=MUP, d_model=192, head={"type": "tied", "scale": 6.0})
    built = model.build()
    with torch.device("meta"):
        loaded = GPT(model)
    loaded.load_state_dict(built.state_dict(), assign=True)
    tokens_BT = torch.arange(9)[None]
    assert torch.equal(loaded(tokens_BT), built(tokens_BT))
    logits_BTV = built.read(tokens_BT) @ built.embedding.weight.T * 6 * BASE / 192
    torch.testing.assert_close(built(tokens_BT), logits_BTV)
    factors = [m.lr_factor for m in loaded.modules() if isinstance(m, Linear)]
    assert set(factors) == {BASE / 192}
