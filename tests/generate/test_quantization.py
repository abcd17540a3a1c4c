import copy

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
    error = (rounded - full).square().mean().sqrt() / full.std()
    assert 1e-4 < error < 0.1
    assert abs(loss - scored) < 2e-3 * scored  # of the same weights, input rounded or not
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
    model = build(head=head, d_model=32).eval()
    quantize(model, {quantization.Bf16Linear: "bf16", Int8Linear: "int8"}[kind])
    monkeypatch.setattr(kind, "weight", property(lambda layer: pytest.fail("written out")))
    with torch.inference_mode():
        assert model(torch.arange(4)[None]).isfinite().all()


def test_a_copy_has_a_matrix_of_its_own(build):
    model = build(head="tied")
    quantize(model, "int8")
    tokens_BT = torch.arange(4)[None]
    with torch.inference_mode():
        before, copied = model(tokens_BT), copy.deepcopy(model)
        copied.head.matrix.scale_O.zero_()
        assert model(tokens_BT).equal(before)
        assert not copied(tokens_BT).any()
