from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gptlab.config import (
    Config,
    differences,
    find_variant,
    nearest,
    variant_names,
)
from gptlab.model.gpt import Model
from gptlab.parts import attention
from gptlab.parts.attention import Attention
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.norm import Norm
from gptlab.parts.norm.layer_norm import LayerNorm
from gptlab.parts.norm.rms_norm import RMSNorm

Tiny = Callable[..., Model]


class Numbers(Config):
    """Settings of every plain kind."""

    name: str = "x"
    rate: float = 0.1
    count: int = 3
    limit: int | None = 5
    norm: Norm | None = None
    sizes: tuple[int, ...] = (1, 2)


# Parts and variants


def test_a_variant_is_chosen_by_its_name_alone_or_with_settings():
    assert Numbers.parse({"norm": "rms_norm"}).norm == RMSNorm()
    assert Numbers.parse({"norm": {"type": "rms_norm", "eps": 1e-3}}).norm == RMSNorm(eps=1e-3)
    assert Numbers(norm=LayerNorm()).norm == LayerNorm()


def test_variants_are_the_files_of_the_folder():
    folder = Path(attention.__path__[0])
    files = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert files == set(variant_names(Attention))


def test_a_variant_knows_its_name():
    assert find_variant(Norm, "rms_norm") is RMSNorm
    assert RMSNorm().variant == "rms_norm"


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("rmsnorm", "norm: no norm variant named 'rmsnorm'; did you mean 'rms_norm'?"),
        (
            "_private",
            "norm: no norm variant named '_private' (there are: l2, layer_norm, rms_norm)",
        ),
        ({"type": "layernorm"}, "norm: no norm variant named 'layernorm'; did you mean"),
        ({"type": ["rms_norm"]}, "norm: no norm variant named"),
        ({"eps": 1e-3}, "norm: needs a `type`, one of: l2, layer_norm, rms_norm"),
        (7, "norm: needs a `type`, one of: l2, layer_norm, rms_norm"),
        ({"type": "rms_norm", "epz": 1}, "norm: no setting named 'epz'; did you mean 'eps'?"),
        ({"type": "rms_norm", "eps": 0}, "norm.eps: Input should be greater than 0 (got '0')"),
    ],
)
def test_a_wrong_part_is_one_line_that_names_it(part: Any, message: str):
    with pytest.raises(ValueError) as error:  # noqa: PT011, the text is compared
        Numbers.parse({"norm": part})
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


# YAML


def test_everything_comes_back_from_yaml(tiny: Tiny):
    numbers = Numbers(name="no", rate=1e-7, limit=None, norm=LayerNorm(bias=False), sizes=(4,))
    assert Numbers.from_yaml(numbers.to_yaml()) == numbers
    model = tiny(
        attention={
            "type": "alternating",
            "of": [{"type": "grouped_query", "window": 7, "qk_norm": "rms_norm"}, "grouped_query"],
        },
        positions={"type": "rotary", "base": 5e5, "layout": "interleaved", "fraction": 0.5},
        head={"type": "untied", "softcap": 30},
        vocab_size=None,
    )
    again = Model.from_yaml(model.to_yaml())
    assert again == model
    assert again.to_yaml() == model.to_yaml()


def test_yaml_holds_every_setting_and_every_default():
    assert Numbers(norm=RMSNorm()).to_yaml() == (
        "name: x\nrate: 0.1\ncount: 3\nlimit: 5\nnorm:\n  type: rms_norm\n  eps: 1.0e-05\n"
        "  affine: true\n  offset: false\n  cast: gemma\n"
        "sizes:\n- 1\n- 2\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate: fast", "rate: Input should be a valid number"),
        ("count: 1.5", "count: Input should be a valid integer"),
        ("rates: 1", "no setting named 'rates'; did you mean 'rate'?"),
        ("5: 1", "no setting named '5'"),
        ("norm: {type: rms_norm, eps: -1}", "norm.eps: Input should be greater than 0 (got '-1')"),
        ("sizes: [1, two]", "sizes.1: Input should be a valid integer"),
        ("rate: [", "not valid YAML: while parsing"),
        ("", "Input should be a valid dictionary"),
        ("- 1", "Input should be a valid dictionary"),
    ],
)
def test_a_wrong_text_is_one_line_that_names_the_setting(text: str, message: str):
    with pytest.raises(ValueError) as error:  # noqa: PT011, the text is compared
        Numbers.from_yaml(text)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_every_problem_is_a_line():
    with pytest.raises(ValueError, match=r"^rate: .*\ncount: .*$"):
        Numbers.from_yaml("rate: fast\ncount: many")


# Overrides


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["rate=3e-4"], {"rate": 3e-4}),
        (["rate=1e5"], {"rate": 1e5}),
        (["rate=-2E-3"], {"rate": -2e-3}),
        (["rate=7"], {"rate": 7.0}),
        (["count=1e3"], {"count": 1000}),
        (["--count=9"], {"count": 9}),
        (["limit=null"], {"limit": None}),
        (["limit="], {"limit": None}),
        (["name=2"], {"name": "2"}),
        (["name=2024-01-01"], {"name": "2024-01-01"}),
        (["name=12:30"], {"name": "12:30"}),
        (["name=no"], {"name": "no"}),
        (["count=10_000"], {"count": 10_000}),
        (["name=a=b"], {"name": "a=b"}),
        (["name='null'"], {"name": "null"}),
        (["sizes=[7, 8, 9]"], {"sizes": (7, 8, 9)}),
        (["sizes.1=5"], {"sizes": (1, 5)}),
        (["count=4", "count=6"], {"count": 6}),
        (["norm=rms_norm"], {"norm": RMSNorm()}),
        (["norm=rms_norm", "norm.eps=1e-3"], {"norm": RMSNorm(eps=1e-3)}),
        (["norm.type=rms_norm"], {"norm": RMSNorm()}),
        (["norm={type: rms_norm, eps: 0.5}"], {"norm": RMSNorm(eps=0.5)}),
        (["norm=rms_norm", "norm=null"], {"norm": None}),
    ],
)
def test_assignments(assignments: list[str], expected: dict[str, Any]):
    assert Numbers().override(assignments) == Numbers().model_copy(update=expected)


def test_assignments_reach_into_lists_of_parts(tiny: Tiny):
    model = tiny().override(
        [
            "attention=alternating",
            "attention.of=[{type: grouped_query, n_heads: 4}, grouped_query]",
            "attention.of.0.window=9",
            "attention.of.1.n_heads=2",
        ]
    )
    expected = (GroupedQuery(n_heads=4, window=9), GroupedQuery(n_heads=2))
    assert getattr(model.attention, "of", None) == expected


@pytest.mark.parametrize("assignment", ["norm=layer_norm", "norm.type=layer_norm"])
def test_another_variant_starts_from_its_own_defaults(assignment: str):
    numbers = Numbers(norm=RMSNorm(eps=0.5))
    assert numbers.override([assignment]).norm == LayerNorm()
    assert numbers.norm == RMSNorm(eps=0.5)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("d_modle=3", "no setting named 'd_modle'; did you mean 'd_model'?"),
        ("norn.eps=3", "norn.eps: no setting named 'norn'; did you mean 'norm'?"),
        ("attention.nheads=3", "attention: no setting named 'nheads'; did you mean 'n_heads'?"),
        ("attention.qk_norm.eps=1", "attention.qk_norm: needs a `type`"),
        ("attention.of.0.n_heads=2", "attention: no setting named 'of'"),
        ("attention=group_query", "attention: no attention variant named 'group_query'; did you"),
        ("d_model.a=1", "d_model.a: d_model has no settings of its own"),
        ("d_model.a.b.c=1", "d_model.a.b.c: d_model has no settings of its own"),
        ("d_model=[", "d_model: not valid YAML: "),
        ("d_model=-1", "d_model: Input should be greater than 0 (got '-1')"),
        ("d_model", "'d_model' is not of the form path.to.setting=value"),
        ("=3", "'=3' is not of the form path.to.setting=value"),
        ("dropout=nan", "dropout: Input should be a finite number"),
        ("norm.eps=.inf", "norm.eps: Input should be a finite number"),
    ],
)
def test_a_wrong_assignment_is_one_line_that_names_it(tiny: Tiny, assignment: str, message: str):
    with pytest.raises(ValueError) as error:  # noqa: PT011, the text is compared
        tiny().override([assignment])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_list_index_must_exist():
    for index in ("2", "-1", "x"):
        with pytest.raises(ValueError, match=rf"^sizes.{index}: '{index}' must be a number below"):
            Numbers().override([f"sizes.{index}=5"])


# Other promises


def test_configs_never_change(tiny: Tiny):
    with pytest.raises(ValidationError, match="frozen"):
        tiny().d_model = 5  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError, match="frozen"):
        tiny().norm.eps = 5.0  # pyright: ignore[reportAttributeAccessIssue]
    assert hash(tiny()) == hash(tiny())


def test_differences_name_every_path_that_differs(tiny: Tiny):
    a = tiny(norm={"type": "rms_norm", "eps": 0.5})
    b = a.override(["d_model=24", "norm=layer_norm"])
    assert differences(a, a) == []
    assert differences(a, b) == [
        ("d_model", 48, 24),
        ("norm.type", "rms_norm", "layer_norm"),
        ("norm.eps", 0.5, 1e-5),
        ("norm.offset", False, "(no such setting)"),
        ("norm.cast", "gemma", "(no such setting)"),
        ("norm.bias", "(no such setting)", True),
    ]


def test_a_slot_has_room_for_its_own_variants_only():
    with pytest.raises(ValueError, match=r"^norm: no norm variant named 'gelu'"):
        Numbers.parse({"norm": "gelu"})


def test_nearest_offers_nothing_when_nothing_is_near():
    assert nearest("d_mdel", ["d_model", "norm"]) == "; did you mean 'd_model'?"
    assert nearest("zzz", ["d_model", "norm"]) == ""


# Malicious and absurd configs that are good YAML (they end at once and run nothing)

MALICIOUS = {
    "dunder import": "count: __import__('os').mkdir('CANARY')",
    "hexadecimal int of 40,000 digits": "count: 0x" + "f" * 40_000,
    "base 60 int": "count: 1" + ":59" * 10_000,
    "NaN": "rate: .nan",
    "infinity": "rate: -.inf",
    "float beyond the largest": "rate: 1e999",
    "unknown setting": "ratee: 1",
    "dunder setting": "__class__: 1",
    "parts 20 deep": "norm: " + "{type: alternating, of: [" * 20 + "x" + "]}" * 20,
    "date": "count: 2024-01-01",
    "very long name": "? " + "a" * 40_000 + "\n: 1",
    "very long variant": "norm: " + "a" * 40_000,
}


@pytest.mark.parametrize("text", MALICIOUS.values(), ids=list(MALICIOUS))
def test_a_malicious_config_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:  # noqa: PT011, any text will do
        Numbers.from_yaml(text)
    assert type(error.value) is ValueError
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 500
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "assignment",
    ["d_model", "n_layers", "context_length", "vocab_size", "mlp.d_ff", "attention.window"],
)
def test_absurd_sizes_are_refused_before_anything_is_built(tiny: Tiny, assignment: str):
    with pytest.raises(ValueError, match=f"^{assignment}: Input should be less than or equal to"):
        tiny().override([f"{assignment}=1{'0' * 30}"])
