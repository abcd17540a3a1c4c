import pytest
import torch
from torch import Tensor, nn

from gptlab.parts.norm import Norm
from gptlab.parts.norm.l2 import L2
from gptlab.parts.norm.layer_norm import LayerNorm
from gptlab.parts.norm.rms_norm import RMSNorm, RMSNormLayer


def build(norm: Norm, x: Tensor) -> nn.Module:
    """Build with a gain and a bias that are not the identity."""
    built = norm.build(x.shape[-1]).double()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter += torch.linspace(-0.5, 0.5, x.shape[-1], dtype=torch.float64).sin()
    return built


def values(scale: float) -> Tensor:
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return scale * (x + 1)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_rms_norm_is_its_formula(eps: float, scale: float):
    x = values(scale)
    norm = build(RMSNorm(eps=eps), x)
    expected = norm.get_parameter("weight") * x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_layer_norm_is_its_formula(eps: float, scale: float):
    x = values(scale)
    norm = build(LayerNorm(eps=eps), x)
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    expected = norm.get_parameter("weight") * scaled + norm.get_parameter("bias")
    torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-12)


def test_layer_norm_may_go_without_bias():
    assert [name for name, _ in LayerNorm(bias=False).build(8).named_parameters()] == ["weight"]


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_norms_without_a_gain_are_their_formulas(scale: float):
    x = values(scale)
    rms, layer = RMSNorm(affine=False).build(16), LayerNorm(affine=False, bias=False).build(16)
    assert [*rms.parameters(), *layer.parameters()] == []
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(rms(x), expected, rtol=0, atol=1e-12)
    centred = x - x.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [1.0, 4.0])
def test_l2_gives_every_vector_one_length_in_its_direction(length: float):
    x = values(3.0)
    y = L2(length=length).build(16)(x)
    torch.testing.assert_close(y.norm(dim=-1), torch.full((5,), length, dtype=torch.float64))
    torch.testing.assert_close(y, length * x / x.square().sum(-1, keepdim=True).sqrt())
    tiny = L2(length=length, eps=1e-2).build(16)(x * 1e-6)
    torch.testing.assert_close(tiny, length * x * 1e-6 / 1e-2)


@pytest.mark.parametrize("cast", ["gemma", "llama"])
def test_an_offset_gain_is_one_plus_its_weight(cast: str):
    x = values(1.0)
    plain, offset = RMSNorm.parse(settings(cast)), RMSNorm.parse(settings(cast, offset=True))
    assert plain.build(16).get_parameter("weight").eq(1).all()
    assert offset.build(16).get_parameter("weight").eq(0).all()
    torch.testing.assert_close(build(offset, x)(x), build(plain, x)(x), rtol=0, atol=1e-12)


def settings(cast: str, **others: object) -> dict[str, object]:
    return {"type": "rms_norm", "eps": 1e-6, "cast": cast} | others


def theirs(cast: str, weight: Tensor) -> nn.Module:
    """The norm of Gemma 3 or of Llama, with this weight, in the weight's type."""
    if cast == "gemma":
        gemma = pytest.importorskip("transformers.models.gemma3.modeling_gemma3")
        norm = gemma.Gemma3RMSNorm(len(weight), eps=1e-6)
    else:
        llama = pytest.importorskip("transformers.models.llama.modeling_llama")
        norm = llama.LlamaRMSNorm(len(weight), eps=1e-6)
    norm.weight = nn.Parameter(weight)
    return norm


def compared(cast: str, order: str, offset: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What transformers' norm of this name gives, and ours with this order and offset."""
    generator = torch.Generator().manual_seed(0)
    weight = (0.3 * torch.randn(256, generator=generator) + (cast == "llama")).to(dtype)
    x = (3 * torch.randn(64, 256, generator=generator)).to(dtype)
    ours = RMSNorm.parse(settings(order, offset=offset)).build(256).to(dtype)
    assert isinstance(ours, RMSNormLayer)
    ours.weight.data.copy_(weight)
    return theirs(cast, weight)(x), ours(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cast", ["gemma", "llama"])
def test_rms_norm_is_that_of_transformers(cast: str, dtype: torch.dtype):
    expected, y = compared(cast, cast, cast == "gemma", dtype)
    assert y.dtype == expected.dtype == dtype
    if dtype == torch.bfloat16:  # a rounding of float32 may tip one of bfloat16
        assert (y != expected).float().mean() < 1e-3
        torch.testing.assert_close(y, expected, rtol=2**-7, atol=0)
    else:
        torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("cast", ["gemma", "llama"])
def test_mistakes_of_a_gain_would_show(cast: str):
    other = {"gemma": "llama", "llama": "gemma"}[cast]
    expected, y = compared(cast, other, cast == "gemma", torch.bfloat16)
    assert (y != expected).float().mean() > 0.1
    expected, y = compared(cast, cast, cast != "gemma", torch.float32)
    assert (y - expected).abs().max() > 1


@pytest.mark.parametrize("norm", [RMSNorm(), RMSNorm(cast="llama"), RMSNorm(affine=False), L2()])
def test_under_autocast_it_answers_in_the_type_it_is_asked_in(norm: Norm):
    x = values(1.0).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = norm.build(16)(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), norm.build(16)(x.double()), rtol=2**-7, atol=0)


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        (RMSNorm(affine=False, offset=True), r"norm\.offset=true .* norm\.affine=false"),
        (RMSNorm(affine=False, cast="llama"), r"norm\.cast=llama .* norm\.affine=false"),
        (LayerNorm(affine=False), r"norm\.bias=true with norm\.affine=false"),
    ],
)
def test_settings_of_a_gain_that_is_not_there_are_refused(norm: Norm, message: str):
    with pytest.raises(ValueError, match=message):
        norm.build(16)
