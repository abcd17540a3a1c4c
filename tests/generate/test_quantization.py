import copy
import gc
import weakref
from itertools import pairwise

import pytest
import torch

from gptlab import machine
from gptlab.generate import quantization
from gptlab.generate.generator import generate_tokens
from gptlab.generate.quantization import FEW_ROWS, Int8Linear, choose, quantize


@pytest.mark.parametrize("n_rows", [1, 3, FEW_ROWS, FEW_ROWS + 1, 40])
@pytest.mark.parametrize("bias", [False, True])
def test_a_product_is_that_of_the_written_out_weights(n_rows, bias):
    generator = torch.Generator().manual_seed(0)
    weight_OI = torch.randn(48, 64, generator=generator)
    bias_O = torch.randn(48, generator=generator) if bias else None
    layer, x = Int8Linear(weight_OI, bias_O), torch.randn(n_rows, 1, 64, generator=generator)
    scale_O1 = weight_OI.abs().amax(1, keepdim=True) / 127
    written_out_OI = (weight_OI / scale_O1).round() * scale_O1
    expected = torch.nn.functional.linear(x, written_out_OI, bias_O)
    error = (layer(x) - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < 0.01  # bfloat16 has eight bits
    assert (layer.weight.float() - weight_OI).abs().max() < weight_OI.abs().max() / 100


@pytest.mark.parametrize("head", ["tied", "untied", "token_scaled"])
@pytest.mark.parametrize("attention", ["grouped_query", "latent"])
@pytest.mark.parametrize("to", ["bf16", "int8"])
def test_a_quantized_model_is_nearly_the_model(build, head, attention, to):
    attention = {"type": attention, "n_heads": 4}
    model, small = (build(head=head, attention=attention, mlp="swiglu") for _ in range(2))
    quantize(small, to)
    tokens_BT = torch.arange(16)[None]
    with torch.no_grad():
        full, rounded = model(tokens_BT), small(tokens_BT)
        loss = small.loss(tokens_BT, tokens_BT.roll(-1))
        scored = torch.nn.functional.cross_entropy(rounded[0], tokens_BT[0].roll(-1))
        each = small.loss(tokens_BT, tokens_BT.roll(-1), "none")
    error = (rounded - full).square().mean().sqrt() / full.std()
    assert 1e-4 < error < 0.1
    torch.testing.assert_close(loss, scored, rtol=1e-6, atol=0)  # of the very logits
    torch.testing.assert_close(each.mean(), scored, rtol=1e-6, atol=0)
    written = [*generate_tokens(small, [[1, 2, 3]], 20, lambda logits_NV: logits_NV.argmax(-1))]
    assert len(written) == 20


def test_products_that_the_kernel_would_read_beyond_stay_as_they_are(build):
    model = build(mlp={"type": "swiglu", "d_ff": 88})
    quantize(model, "int8")
    mlp = model.blocks[0].mlp
    assert isinstance(mlp.up, Int8Linear)
    assert not isinstance(mlp.down, Int8Linear)


def test_bfloat16_is_chosen_for_large_models_where_it_is_fast(build, monkeypatch):
    model = build()
    monkeypatch.setattr(machine, "bf16_is_fast", lambda device: True)
    assert choose("auto", model) == "none"
    monkeypatch.setattr(quantization, "PAYS_FROM", 1000)
    assert choose("auto", model) == "bf16"
    monkeypatch.setattr(machine, "bf16_is_fast", lambda device: False)
    assert choose("auto", model) == "none"
    assert choose("int8", model) == "int8"
    assert choose("auto", model.to("meta")) == "none"
    with pytest.raises(ValueError, match="add --device=cpu"):
        choose("int8", model.to("meta"))
    with pytest.raises(ValueError, match=r"--quantize=int4 must be auto, none, bf16 or int8"):
        choose("int4", model)


@pytest.mark.parametrize("head", ["tied", "untied", "token_scaled"])
@pytest.mark.parametrize("kind", [quantization.Bf16Linear, Int8Linear])
def test_a_quantized_matrix_is_never_written_out(build, monkeypatch, head, kind):
    """That would be as much work for each token as all products of the model."""
    model = build(head=head, d_model=32, context_length=512).eval()
    quantize(model, {quantization.Bf16Linear: "bf16", Int8Linear: "int8"}[kind])
    monkeypatch.setattr(kind, "weight", property(lambda layer: pytest.fail("written out")))
    with torch.inference_mode():
        for n in (4, FEW_ROWS + 1, quantization.AT_ONCE + 1):
            tokens_BT = torch.arange(n).expand(1, n) % 257
            assert model(tokens_BT).isfinite().all()
            assert model.loss(tokens_BT, tokens_BT).isfinite()


@pytest.mark.parametrize("n_outputs", [1, 48, quantization.AT_ONCE + 3])
def test_integers_are_the_nearest_to_the_weights(n_outputs):
    """Nothing is lost beside: the scale that they are multiplied by is the one they were made for.

    That of a row whose largest weight is a bit more than bfloat16 can say, for instance.
    """
    weight_OI = torch.randn(n_outputs, 64, generator=torch.Generator().manual_seed(0))
    layer = Int8Linear(weight_OI, None)
    error_OI = (layer.weight - weight_OI).abs() / layer.scale_O.float()[:, None]
    assert error_OI.max() <= 0.5 + 1e-4
    assert layer.integers_OI.abs().max() == 127


def test_few_rows_and_many_give_the_same():
    """Two kernels, one result: what is scored many at a time is what is written one by one."""
    generator = torch.Generator().manual_seed(0)
    layer = Int8Linear(torch.randn(48, 64, generator=generator), None)
    x_NI = torch.randn(2 * FEW_ROWS, 64, generator=generator)
    together, apart = layer(x_NI), torch.cat([layer(x_I[None]) for x_I in x_NI])
    assert (together - apart).abs().max() <= 2**-7 * apart.abs().max()
    assert (together - apart).norm() < 3e-3 * apart.norm()


@pytest.mark.parametrize("to", ["bf16", "int8"])
def test_weights_are_let_go_of_one_by_one(build, monkeypatch, to):
    """There is never more than one weight in both forms."""
    model = build(n_layers=3)
    named = [(name, p) for name, p in model.blocks.named_parameters() if name.endswith("weight")]
    known = [weakref.ref(p) for _, p in named if p.ndim == 2]
    del named
    kind, alive = quantization.KINDS[to], []

    class Watched(kind):
        def __init__(self, *given):
            gc.collect()
            alive.append(sum(each() is not None for each in known))
            super().__init__(*given)

    monkeypatch.setitem(quantization.KINDS, to, Watched)
    quantize(model, to)
    assert alive[0] == len(known)
    assert all(later < before for before, later in pairwise(alive))


def test_a_copy_has_a_matrix_of_its_own(build):
    model = build(head="tied")
    quantize(model, "int8")
    tokens_BT = torch.arange(4)[None]
    with torch.inference_mode():
        before, copied = model(tokens_BT), copy.deepcopy(model)
        copied.head.matrix.scale_O.zero_()
        assert model(tokens_BT).equal(before)
        assert not copied(tokens_BT).any()
