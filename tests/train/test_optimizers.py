from collections.abc import Callable

import pytest
import torch

from gptlab.config import variant_names
from gptlab.model.gpt import GPT
from gptlab.parts.layers import Linear
from gptlab.train.loop import clipping
from gptlab.train.optimizers import Optimizer
from gptlab.train.optimizers._light import light
from gptlab.train.optimizers.adamw import AdamW
from gptlab.train.optimizers.muon import Muon
from gptlab.train.recipe import Recipe

MakeRecipe = Callable[..., Recipe]


def gradients(model: GPT, seed: int = 0, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)


def build(tiny_recipe: MakeRecipe, residual: str = "pre_norm") -> GPT:
    settings = ("model.norm=layer_norm", f"model.residual={residual}")
    return tiny_recipe(*settings).but(seed=0).build()


@pytest.mark.parametrize("residual", ["pre_norm", "hyper_connections"])
@pytest.mark.parametrize("name", variant_names(Optimizer))
def test_only_weights_of_layers_decay(name: str, residual: str, tiny_recipe: MakeRecipe):
    """With zero gradients a step shrinks them by lr * decay and leaves all else alone.

    The static weights of hyper-connections are a matrix, but no layer's.
    """
    model = build(tiny_recipe, residual)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers = Optimizer.parse({"type": name, "lr": 0.01, "weight_decay": 0.5}).build(model)
    optimizers.step()
    for name_, parameter in model.named_parameters():
        is_decayed = parameter.ndim >= 2 and not name_.endswith(".static")
        factor = 1 - 0.01 * 0.5 if is_decayed else 1.0
        torch.testing.assert_close(parameter, before[name_] * factor, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", variant_names(Optimizer))
def test_every_parameter_moves_and_gradients_are_forgotten(name: str, tiny_recipe: MakeRecipe):
    model = build(tiny_recipe)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    gradients(model)
    optimizers = Optimizer.parse(name).build(model)
    optimizers.step()
    for name_, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name_]), name_
        assert parameter.grad is None


@pytest.mark.parametrize("fused", [True, False])
def test_a_light_optimizer_is_torchs_own_to_the_last_bit(fused: bool, tiny_recipe: MakeRecipe):
    models = build(tiny_recipe), build(tiny_recipe)
    kinds = torch.optim.AdamW, light(torch.optim.AdamW)
    optimizers = [
        kind(model.parameters(), lr=0.01, weight_decay=0.1, fused=fused)
        for kind, model in zip(kinds, models, strict=True)
    ]
    for step in range(3):
        for model, optimizer in zip(models, optimizers, strict=True):
            gradients(model, seed=step)
            optimizer.step()
            optimizer.zero_grad()
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(a, b)
        assert b.grad is None


@pytest.mark.parametrize("name", variant_names(Optimizer))
def test_state_by_name_restores_the_next_step(name: str, tiny_recipe: MakeRecipe):
    model, other = build(tiny_recipe), build(tiny_recipe)
    config = Optimizer.parse(name)
    optimizers = config.build(model)
    for seed in (0, 1):
        gradients(model, seed)
        optimizers.step()
    other.load_state_dict(model.state_dict())
    restored = config.build(other)
    restored.load_state({key: value.clone() for key, value in optimizers.state().items()})
    for each, its in ((model, optimizers), (other, restored)):
        gradients(each, 2)
        its.step()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    assert restored.state().keys() == optimizers.state().keys()


def test_the_multiplier_scales_every_peak(tiny_recipe: MakeRecipe):
    optimizers = Muon(lr=0.4, adamw_lr=0.2).build(build(tiny_recipe))
    optimizers.set_lr(0.5)
    optimizers.set_lr(0.25)
    rates = {group["lr"] for each in optimizers.optimizers for group in each.param_groups}
    assert rates == {0.1, 0.05}


@pytest.mark.parametrize("name", variant_names(Optimizer))
def test_a_layers_factor_changes_its_steps_and_not_its_decay(name: str, tiny_recipe: MakeRecipe):
    """A hidden matrix under muP at 4 times the base width: a quarter for Adam, half for Muon."""
    config = Optimizer.parse({"type": name, "lr": 0.01, "weight_decay": 0.5})
    steps, decays = {}, {}
    for base_width in (4, 16):
        initialization = f'{{"type": "mup", "base_width": {base_width}}}'
        recipe = tiny_recipe(f"model.initialization={initialization}", "model.residual=pre_norm")
        for zero, seen in ((False, steps), (True, decays)):
            model = recipe.build()
            before = {name: p.detach().clone() for name, p in model.named_parameters()}
            gradients(model, scale=0 if zero else 1)
            (config if zero else config.but(weight_decay=0)).build(model).step()
            seen[base_width] = {name: p - before[name] for name, p in model.named_parameters()}
            seen[base_width, "weights"] = before
    hidden = {"adamw": 0.25, "muon": 0.5}[name]
    for parameter, step in steps[16].items():
        is_hidden = "blocks." in parameter and step.ndim == 2
        factor = hidden if is_hidden else 1.0
        torch.testing.assert_close(steps[4][parameter], factor * step, rtol=1e-3, atol=1e-7)
        for width in (4, 16):
            expected = -0.005 * decays[width, "weights"][parameter] * (step.ndim == 2)
            torch.testing.assert_close(decays[width][parameter], expected, rtol=1e-4, atol=1e-7)


def test_muon_takes_the_matrices_of_branches(tiny_recipe: MakeRecipe):
    model = build(tiny_recipe, "hyper_connections")
    muon, rest = Muon().build(model).optimizers
    taken = {id(p) for group in muon.param_groups for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in taken}
    of_branches = [n for n, p in model.named_parameters() if "blocks." in n and p.ndim == 2]
    assert names == {name for name in of_branches if ".residual." not in name}
    left = {id(p) for group in rest.param_groups for p in group["params"]}
    assert not taken & left
    assert len(taken) + len(left) == len(list(model.parameters()))


def test_adamw_takes_the_step_of_its_paper():
    model = Linear(3, 2, "input").double()
    weight = model.weight.detach().clone()
    optimizers = AdamW(lr=0.1, weight_decay=0.2, beta1=0.8, beta2=0.9, eps=1e-3).build(model)
    m = v = torch.zeros_like(weight)
    for step in (1, 2, 3):
        gradient = torch.randn(
            2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(step)
        )
        m, v = 0.8 * m + 0.2 * gradient, 0.9 * v + 0.1 * gradient**2
        update = (m / (1 - 0.8**step)) / ((v / (1 - 0.9**step)).sqrt() + 1e-3)
        weight = weight - 0.1 * 0.2 * weight - 0.1 * update
        model.weight.grad = gradient
        optimizers.step()
    torch.testing.assert_close(model.weight.detach(), weight)


def test_muon_in_batches_takes_the_steps_of_torch_s_own(tiny_recipe: MakeRecipe):
    model = build(tiny_recipe)
    inside, _ = Muon(lr=0.02).build(model).optimizers
    twins = {id(p): p.detach().clone().requires_grad_() for p in model.parameters()}
    theirs = torch.optim.Muon(
        [
            {**group, "params": [twins[id(p)] for p in group["params"]]}
            for group in inside.param_groups
        ],
        adjust_lr_fn="match_rms_adamw",
    )
    for seed in (0, 1, 2):
        gradients(model, seed)
        for parameter in model.parameters():
            assert parameter.grad is not None
            twins[id(parameter)].grad = parameter.grad.clone()
        inside.step()
        theirs.step()
    moved = {id(p) for group in inside.param_groups for p in group["params"]}
    assert len(moved) > 4
    for parameter in model.parameters():
        if id(parameter) in moved:
            torch.testing.assert_close(parameter, twins[id(parameter)], rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", variant_names(Optimizer))
def test_a_divisor_is_as_good_as_smaller_gradients(name: str, tiny_recipe: MakeRecipe):
    whole, divided = build(tiny_recipe), build(tiny_recipe)
    config = Optimizer.parse({"type": name, "lr": 0.01})
    ours, theirs = config.build(whole), config.build(divided)
    for seed in (0, 1):
        gradients(whole, seed)
        gradients(divided, seed, scale=1 / (3.0 + seed))
        ours.step(divisor=torch.tensor(3.0 + seed))
        theirs.step()
    for a, b in zip(whole.parameters(), divided.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_clipping_is_torch_s():
    weight = torch.nn.Parameter(torch.zeros(50))
    for scale in (0.01, 10.0):
        gradient = scale * torch.randn(50)
        weight.grad = gradient.clone()
        norm = torch.nn.utils.clip_grad_norm_([weight], 1.0)
        divisor = clipping(norm, 1.0)
        assert divisor is not None
        torch.testing.assert_close(gradient / divisor, weight.grad)
    assert clipping(norm, None) is None
    assert clipping(norm, 0.0) is None
