from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from gptlab.kernels.places import Places
from gptlab.model.gpt import Model
from gptlab.parts.attention.grouped_query import GroupedQueryAttention
from gptlab.parts.layers import Dropout

Tiny = Callable[..., Model]

GPT2 = {
    "vocab_size": 50257,
    "context_length": 1024,
    "d_model": 768,
    "n_layers": 12,
    "norm": "layer_norm",
    "attention": {"type": "grouped_query", "n_heads": 12, "bias": True},
    "mlp": {"type": "gelu", "bias": True},
}


def tokens(B: int = 2, T: int = 20) -> Tensor:
    return torch.randint(31, (B, T), generator=torch.Generator().manual_seed(0))


def test_gpt2_has_as_many_parameters_as_published(tiny: Tiny):
    with torch.device("meta"):
        gpt = tiny(**GPT2).build()
    assert sum(parameter.numel() for parameter in gpt.parameters()) == 124_439_808


def test_a_new_model_knows_nothing(tiny: Tiny):
    """Its loss is that of equal chances for every token."""
    loss = tiny().build().loss(tokens(), tokens().roll(-1, dims=1))
    assert loss.item() == pytest.approx(torch.tensor(31.0).log().item(), abs=0.05)


def test_rows_of_a_batch_do_not_meet(tiny: Tiny):
    gpt = tiny(attention={"type": "grouped_query", "window": 5}).build()
    tokens_BT = tokens(5)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(gpt(tokens_BT)[order], gpt(tokens_BT[order]))
    torch.testing.assert_close(gpt(tokens_BT)[2:3], gpt(tokens_BT[2:3]))


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_positions_are_explicit(tiny: Tiny, positions: str):
    gpt = tiny(positions=positions).build()
    counted = gpt(tokens(T=5), Places.counted(0, 5))
    assert torch.equal(gpt(tokens(T=5)), counted)
    assert (gpt(tokens(T=5), Places.counted(1, 6)) - counted).abs().max() > 1e-3


def test_rotary_scores_do_not_depend_on_where_a_text_starts(tiny: Tiny):
    gpt = tiny(positions="rotary").build()
    torch.testing.assert_close(gpt(tokens(), Places.counted(400, 420)), gpt(tokens()))


def test_dropout_acts_in_training_only(tiny: Tiny):
    gpt = tiny(dropout=0.5).build()
    plain = tiny().build()
    assert torch.equal(gpt.eval()(tokens()), plain(tokens()))
    gpt.train()
    assert not torch.equal(gpt(tokens()), gpt(tokens()))


@pytest.mark.parametrize("where", ["embedding", "scores", "attention", "mlp"])
def test_dropout_acts_in_every_place(tiny: Tiny, where: str):
    """With every other dropout switched off, outputs still vary from pass to pass."""
    gpt = tiny(dropout=0.5).build().train()
    for module in gpt.modules():
        if isinstance(module, Dropout):
            module.fraction = 0.0
    for mixer in gpt.mixers():
        assert isinstance(mixer, GroupedQueryAttention)
        mixer.score_dropout = 0.5 if where == "scores" else 0.0
    if where == "embedding":
        gpt.dropout.fraction = 0.5
    elif where != "scores":
        dropout = gpt.blocks[0].get_submodule(f"{where}.dropout")
        assert isinstance(dropout, Dropout)
        dropout.fraction = 0.5
    assert (gpt(tokens()) - gpt(tokens())).abs().max() > 1e-5


def test_a_model_can_be_copied(tiny: Tiny):
    """Averages of weights and workers of other processes need that."""
    gpt = tiny(positions="rotary").build()
    twin = deepcopy(gpt)
    with torch.no_grad():
        twin.embedding.weight.mul_(2)
    assert not torch.equal(gpt(tokens()), twin(tokens()))
    with torch.no_grad():
        twin.embedding.weight.div_(2)
    assert torch.equal(gpt(tokens()), twin(tokens()))


def test_a_cache_is_of_one_text(tiny: Tiny):
    """Two texts read in turns do not disturb one another."""
    gpt = tiny(attention={"type": "grouped_query", "window": 4}).build()
    texts = tokens(2)
    caches = [gpt.new_caches(20), gpt.new_caches(20)]
    logits: list[list[Tensor]] = [[], []]
    for t in range(20):
        for text, cache, seen in zip(texts, caches, logits, strict=True):
            seen.append(gpt(text[None, t : t + 1], Places.counted(t, t + 1), cache))
    read = torch.cat([torch.cat(seen, dim=1) for seen in logits])
    torch.testing.assert_close(read, gpt(texts), rtol=1e-4, atol=1e-6)


def test_the_vocabulary_must_be_known_when_a_model_is_built(tiny: Tiny):
    with pytest.raises(ValueError, match=r"^model\.vocab_size=null: "):
        tiny(vocab_size=None).build()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"attention": {"type": "grouped_query", "n_heads": 5}},
            r"^model\.attention\.n_heads=5 does not divide model\.d_model=48; .* set d_head$",
        ),
        (
            {"attention": {"type": "grouped_query", "n_heads": 6, "n_kv_heads": 4}},
            r"^model\.attention\.n_kv_heads=4 does not divide model\.attention\.n_heads=6$",
        ),
        (
            {"attention": {"type": "grouped_query", "n_heads": 16}, "positions": "rotary"},
            r"^model\.positions\.fraction=1\.0 of d_head=3 leaves 3 dimensions",
        ),
        ({"d_model": 36, "positions": {"type": "rotary", "fraction": 0.5}}, r"d_head=3 leaves 1"),
        ({"d_model": 45, "positions": "sinusoidal"}, r"^model\.d_model=45 must be even"),
    ],
)
def test_parts_that_do_not_fit_are_refused_when_a_model_is_built(
    tiny: Tiny, changes: dict, message: str
):
    with pytest.raises(ValueError, match=message):
        tiny(**changes).build()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mlp": "swigloo"}, r"^mlp: no mlp variant named 'swigloo'; did you mean 'swiglu'\?"),
        ({"residual": "prenorm"}, r"^residual: no residual variant named 'prenorm'; did you mean"),
        ({"dropout": 1.0}, r"^dropout: Input should be less than 1 \(got '1\.0'\)$"),
        ({"n_layers": 0}, r"^n_layers: Input should be greater than 0 \(got '0'\)$"),
        ({"layers": 3}, r"^no setting named 'layers'; did you mean 'n_layers'\?"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tiny: Tiny, changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


@pytest.mark.parametrize("slot", ["positions", "norm", "attention", "mlp", "residual", "head"])
def test_every_slot_must_be_filled(tiny: Tiny, slot: str):
    settings = {k: v for k, v in tiny().model_dump(mode="json").items() if k != slot}
    with pytest.raises(ValueError, match=f"^{slot}: Field required$"):
        Model.parse(settings)


@pytest.mark.parametrize("head", ["tied", "untied"])
def test_few_tokens_of_a_large_vocabulary_leave_a_whole_gradient(tiny: Tiny, head: str):
    """Also in portions; as a table looked up without knowing of its head does."""
    gpt = tiny(vocab_size=500, head=head).build()
    other = deepcopy(gpt)
    other.head.is_tied = False
    tokens_BT = torch.randint(500, (2, 20), generator=torch.Generator().manual_seed(0))
    tokens_BT[:, 7:10] = 3  # more than once
    for model in (gpt, other):
        for portion_BT in (tokens_BT, tokens_BT.flip(0)):
            model.losses(portion_BT, portion_BT.roll(-1, dims=1))["loss"].backward()
    assert gpt.embedding.weight.grad is not None
    assert gpt.embedding.weight.grad.layout == torch.strided
    for got, wanted in zip(gpt.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(got.grad, wanted.grad)


def test_tied_tokens_are_looked_up_without_a_second_table(tiny: Tiny):
    embedding = tiny(vocab_size=500).build().embedding
    for head_follows in (False, True):
        rows_BTD = embedding(tokens(), head_follows)
        (gradient,) = torch.autograd.grad(rows_BTD.sum(), embedding.weight)
        assert gradient.is_sparse == head_follows
