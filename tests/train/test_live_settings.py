"""No setting is inert: each one, changed, changes what a run computes or writes.

The settings are found, not listed: every field of the recipe, of every variant of every slot, and
of what these hold in turn.
"""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin
from unittest.mock import MagicMock

import pytest

from gptlab import machine
from gptlab.config import Config, Part, find_variant, variant_names
from gptlab.data.preparation.options import Options
from gptlab.data.preparation.run import prepare
from gptlab.data.sources import python, shakespeare
from gptlab.model.accounting import build_on_meta
from gptlab.parts.norm.layer_norm import LayerNorm
from gptlab.recipes import find_recipe
from gptlab.tokenizer.bpe import BPE
from gptlab.train import environment
from gptlab.train.recipe import Recipe
from gptlab.train.run import start_run

Observe = Callable[..., dict[str, Any]]

BASE = (  # four steps in which everything happens that can
    "train.steps=4",
    "train.log_every=1",
    "train.evaluate_every=2",
    "train.checkpoint_every=1",
    "train.keep_last=3",
    "train.grad_clip=0.1",
    "schedule=constant",
    "optimizer=adamw",
    "model.positions=rotary",
    "name=base",
)
START = {  # where the default is of no account in a run as small as this; slots as in contracts
    "wsd.decay": 0.9,
    "bpe.vocab_size": 280,
    "bpe.pad_to_multiple_of": 64,
    "char.pad_to_multiple_of": 64,
    "pretrained.pad_to_multiple_of": 64,
    "swiglu.multiple_of": 10,
    "normalized_swiglu.multiple_of": 10,
    "geglu.multiple_of": 10,
    "grouped_query.n_heads": 2,
    "attention.normalized.n_heads": 2,
    "alternating.of": [
        {"type": "grouped_query", "n_heads": 2},
        {"type": "grouped_query", "n_heads": 2, "window": 3},
    ],
    "text.path": "FILE",
    "mixture.of": [{"type": "text", "path": "FILE"}, {"type": "text", "path": "OTHER"}],
    "pretrained.path": "TOKENS/one",
    "prepared.path": "PREPARED",
    "layer_norm.bias": False,
    "l2.eps": 100.0,
    "scaling.linear.factor": 2.0,
    "ntk.factor": 2.0,
    "dynamic_ntk.factor": 2.0,
    "dynamic_ntk.original_length": 4,
    "llama3.original_length": 16,
    "yarn.factor": 2.0,
    "yarn.original_length": 10_100,
    "yarn.beta_slow": 2.0,
    "longrope.original_length": 4,
    "longrope.factors": [1.0, 2.0, 3.0, 4.0],
    "differential.n_heads": 2,
    "gated_delta.n_heads": 2,
    "attention.linear.n_heads": 2,
    "latent.n_heads": 2,
    "latent.d_rope": 8,
    "clamped_swiglu.multiple_of": 10,
    "clamped_swiglu.limit": 0.01,
    "mixture_of_experts.n_groups": 2,
    "mixture_of_experts.dense_layers": ["gelu"],
}
ELSEWHERE = {  # what must stand elsewhere for a setting to be of account
    "positions": ("model.positions=none",),  # with positions of its own in every layer
    "reset_positions": ("model.positions=learned", "data.path=MANY"),
}
BESIDE = {  # what must stand beside a setting for it to be of account
    "proportional": ("fraction", 0.5),
    "qk_norm_over": ("qk_norm", "rms_norm"),
    "qk_norm_after_rotation": ("qk_norm", "rms_norm"),
    "feature_map": ("divide", "norm"),
}
NO_PLACE = {  # parts that a slot refuses in this place
    "attention.positions": {"learned", "sinusoidal"},
}
SEEN_ELSEWHERE = (  # endings of settings that this run cannot show
    ".cast",  # the same in float32: tests/parts/norm/test_norms.py
    ".of.0.value_residual",  # the first layer has nothing to mix in: its values are the ones mixed
    ".last.value_residual",  # refused, since the first layer shares no values
    ".share_kv",  # refused in a first layer: tests/parts/attention/test_sharing.py
)
VALUES = {  # a live value for what is null, a text or a list; FILE, OTHER and RUN are places
    "name": "another",
    "special": ["[END]"],
    "tokens": 64,
    "max_seconds": 1e-9,
    "micro_batch_tokens": 8,
    "init_from": "RUN",
    "wandb": "project",
    "sample_prompt": "class ",
    "vocab_size": 512,
    "n_kv_heads": 1,
    "n_key_heads": 1,
    "d_key": 3,
    "window": 3,
    "chunk": 3,
    "d_latent": 6,
    "d_query_latent": 6,
    "d_nope": 6,
    "d_rope": 2,
    "d_value": 6,
    "qk_norm": "rms_norm",
    "d_ff": 24,
    "softcap": 2.0,
    "z_loss": 0.5,
    "alpha_scale": 0.5,
    "s_qk_scale": 0.5,
    "s_z_scale": 0.5,
    "adamw_lr": 0.5,
    "path": "OTHER",
    "mixture.of": [{"type": "text", "path": "OTHER"}],
    "weights": [1, 3],
    "tokenizer.path": "TOKENS/other",
    "prepared.path": "SECOND_SET",
    "of": [{"type": "grouped_query", "n_heads": 2}],
    "last": {"type": "grouped_query", "n_heads": 4},
    "positions": "alibi",
    "scaling": {"type": "linear", "factor": 2},
    "original_length": 4,
    "magnitude": 3.0,
    "factors": [2.0, 2.0, 2.0, 2.0],
    "d_head": 4,
    "scale": 0.3,
    "gate": "head",
    "learned": "branch",
    "shared": "gelu",
    "dense_layers": ["swiglu"],
    "read_bias": 0.5,
    "embedding_scale": 3.0,
    "embedding_norm": "rms_norm",
    "multi_token": {"depth": 1},
}
MAY_BE_REFUSED = {  # where there is no such device
    "train.device",
    "train.kernels",
    "train.cuda_graphs",
}
TIMING = {"seconds", "tokens_per_second", "model_flops_utilization"}
NOT_COMPARED = {  # the settings themselves, and what differs without them
    "config.yaml": None,
    "tokenizer/tokenizer.json": None,
    ".lock": None,
    "MANIFEST.json": None,
    "environment.json": {"git_commit", "tokenizer_sha256", "machine"},
    "state.json": TIMING | {"recipe"},
}


@dataclass(frozen=True)
class Group:
    """A group of settings: where it stands, what makes it stand there, and its class."""

    path: str
    settings: tuple[str, ...]
    config: type[Config]

    def __str__(self) -> str:
        return f"{self.path or 'recipe'}={self.variant}"

    @property
    def variant(self) -> str:
        return self.config.__module__.rpartition(".")[2]


def groups(
    config: type[Config],
    path: str = "",
    settings: tuple[str, ...] = (),
    above: tuple[type[Part], ...] = (),
) -> Iterator[Group]:
    """Find a group and all those below it.

    A part is not looked for inside of itself, and what a part of its own slot holds is left alone:
    its parts in turn are looked at where it stands by itself.
    """
    yield Group(path, settings, config)
    if len(above) > len(set(above)):
        return
    for name, field in config.model_fields.items():
        place = f"{path}.{name}" if path else name
        for inner in classes_in(field.annotation):
            if not issubclass(inner, Part):
                given = (f"{place}={{}}",) if field.default is None else ()
                yield from groups(inner, place, settings + given, above)
                continue
            is_list = get_origin(field.annotation) is tuple
            for variant in variant_names(inner):
                if any(place.endswith(end) and variant in no for end, no in NO_PLACE.items()):
                    continue
                found = find_variant(inner, variant)
                if found is not config:
                    chosen = choose(f"{place}.0" if is_list else place, inner, variant)
                    where = chosen[0].partition("=")[0]
                    yield from groups(found, where, settings + chosen, (*above, inner))


def classes_in(annotation: Any) -> Iterator[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for argument in get_args(annotation):
        yield from classes_in(argument)


def choose(place: str, slot: type[Part], variant: str) -> tuple[str, ...]:
    """Write the assignment that puts a variant in a place, with the values it starts from."""
    names = (f"{variant}.", f"{slot.__module__.rpartition('.')[2]}.{variant}.")
    starts = {key.rpartition(".")[2]: v for key, v in START.items() if key.startswith(names)}
    return (f"{place}={json.dumps({'type': variant, **starts})}",)


def without_idle_positions(group: Group) -> Group:
    """Take the model's positions away where no layer would take them, which is refused."""
    recipe = find_recipe("shakespeare")
    small = ("model.d_model=16", "model.attention.n_heads=2", "model.positions=rotary")
    try:
        build_on_meta(recipe.override([*small, *group.settings]).resolved().model)
    except ValueError as error:
        if str(error).startswith("model.positions="):
            return replace(group, settings=(*group.settings, "model.positions=none"))
    return group


FOUND = sorted(groups(Recipe), key=lambda group: "grouped_query" in "".join(group.settings))
BY_PLACE = {str(group): group for group in FOUND}  # one for each place, the plainest
GROUPS = [without_idle_positions(group) for group in BY_PLACE.values()]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("places")
    text = "".join(f"class A{i % 7}: x = {i * 1234567 % 100003}\n" for i in range(60))
    (folder / "library").mkdir()
    contents = {"file.txt": text, "other.txt": text[::-1], "library/a.py": text[50:]}
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "many").mkdir()
    for i in range(200):
        (folder / "many" / f"{i}.txt").write_text(text[i * 9 : i * 9 + 3 + i % 6])
    for name, size in {"one": 271, "other": 280}.items():
        BPE(vocab_size=size).train([text]).save(folder / "tokens" / name)
    sets = {"PREPARED": "file.txt", "SECOND_SET": "other.txt"}
    for name, source in sets.items():
        options = Options(str(folder / source), "byte", folder / name, val_fraction=0.2, workers=1)
        prepare(options, MagicMock())
    names = {"FILE": "file.txt", "OTHER": "other.txt", "RUN": "source", "MANY": "many"}
    names |= {"TOKENS": "tokens"} | {name: name for name in sets}
    return {name: folder / place for name, place in names.items()}


@pytest.fixture
def observe(
    places: dict[str, Path],
    tiny_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    quick_disk: None,
) -> Observe:
    """Train by these settings, on top of the tiny recipe, and give all that came of it."""
    library, text = places["FILE"].parent / "library", places["FILE"].read_bytes()
    monkeypatch.setattr(python.sysconfig, "get_path", lambda name: str(library))
    monkeypatch.setattr(shakespeare, "SHA256", sha256(text[99:]).hexdigest())
    monkeypatch.setenv("GPTLAB_CACHE", str(tmp_path))
    (tmp_path / "tinyshakespeare.txt").write_bytes(text[99:])
    monkeypatch.setattr(machine, "bf16_is_fast", lambda device: True)
    monkeypatch.setattr(environment, "git_commit", lambda: None)
    logged: list[Any] = []
    fake = SimpleNamespace(log=lambda *line, **x: logged.append((line, x)), finish=lambda: None)
    wandb = SimpleNamespace(init=lambda **given: logged.append(given["project"]) or fake)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    number = count()

    def observe(*settings: str) -> dict[str, Any]:
        logged.clear()
        given = [place_names(setting, places) for setting in settings]
        recipe = tiny_recipe(f"data.path={places['FILE']}", *BASE, *given)
        root = tmp_path / str(next(number))
        path = start_run(recipe, root, say=lambda text: None, origin="tiny").run.path
        seen = {"name": path.name, "wandb": len(logged), **contents(path)}
        shutil.rmtree(root)
        return seen

    if not places["RUN"].exists():
        start_run(
            tiny_recipe(f"data.path={places['FILE']}", *BASE, "name=source", "seed=9"),
            places["RUN"].parent,
            say=lambda text: None,
        )
    return observe


def place_names(setting: str, places: dict[str, Path]) -> str:
    for name, path in places.items():
        setting = setting.replace(name, path.as_posix())
    return setting


def contents(run: Path) -> dict[str, Any]:
    """Read what a run has written, without times and without its settings."""
    seen: dict[str, Any] = {}
    for file in sorted(run.rglob("*")):
        name = file.relative_to(run).as_posix()
        left_out = NOT_COMPARED.get(name, NOT_COMPARED.get(file.name, set()))
        if file.is_dir() or name.startswith("tensorboard/"):
            seen[name.partition("/events")[0]] = True
        elif name == "metrics.jsonl":
            seen[name] = [without(TIMING, line) for line in file.read_text().splitlines()]
        elif left_out:
            seen[name] = without(left_out, file.read_text())
        elif left_out is not None:
            seen[name] = file.read_bytes()
    return seen


def without(left_out: set[str], text: str) -> dict[str, Any]:
    return {key: value for key, value in json.loads(text).items() if key not in left_out}


def settings_of(group: Group, recipe: Recipe) -> Iterator[tuple[str, list[Any]]]:
    """Give every setting of a group that is no group itself, with other values for it."""
    node: Any = recipe
    for step in group.path.split(".") if group.path else []:
        node = node[int(step)] if step.isdecimal() else getattr(node, step)
    assert type(node) is group.config, f"{group.path} is {node}"
    for name, field in group.config.model_fields.items():
        value = getattr(node, name)
        if not isinstance(value, Config):
            path = f"{group.path}.{name}" if group.path else name
            yield path, others(path, group.variant, field.annotation, value)


def others(path: str, variant: str, annotation: Any, value: Any) -> list[Any]:
    """Choose other values for a setting: one of them must make a difference."""
    if isinstance(value, bool):
        return [not value]
    if get_origin(annotation) is Literal:
        return [option for option in get_args(annotation) if option != value]
    if isinstance(value, int):
        return [value * 2 or 1]
    if isinstance(value, float):
        return [value / 2 or 0.5]
    name = path.rpartition(".")[2]
    for known in (path, f"{variant}.{name}", name):
        if known in VALUES:
            return [VALUES[known]]
    pytest.fail(f"{path} is {value}: add a live value for {name!r} to VALUES of this test")


def inert_settings(group: Group, observe: Observe, recipe: Recipe) -> list[str]:
    before = observe(*group.settings)
    return [
        path
        for path, values in settings_of(group, recipe)
        if not path.endswith(SEEN_ELSEWHERE)
        and not any(is_live(path, value, group, observe, before) for value in values)
    ]


def is_live(path: str, value: Any, group: Group, observe: Observe, before: dict[str, Any]) -> bool:
    assignment = f"{path}={json.dumps(value)}"
    parent, _, name = path.rpartition(".")
    settings = group.settings + ELSEWHERE.get(name, ())
    if name in BESIDE:
        other, needed = BESIDE[name]
        settings = (*settings, f"{parent}.{other}={json.dumps(needed)}")
    if settings != group.settings:
        before = observe(*settings)
    try:
        return observe(*settings, assignment) != before
    except ValueError as error:
        if path in MAY_BE_REFUSED and str(error).startswith(
            f"{path}={json.dumps(value).strip(chr(34))}"
        ):
            return True
        raise


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch.compile's own
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_every_setting_is_live(
    group: Group, observe: Observe, places: dict[str, Path], tiny_recipe: Callable[..., Recipe]
):
    given = [place_names(setting, places) for setting in group.settings]
    recipe = tiny_recipe(f"data.path={places['FILE']}", *BASE, *given)
    assert inert_settings(group, observe, recipe) == []


SLOTS = [path for path, n in Counter(group.path for group in GROUPS).items() if n > 1]


@pytest.mark.parametrize("slot", SLOTS)
def test_every_variant_is_another(slot: str, observe: Observe):
    seen = {str(group): observe(*group.settings) for group in GROUPS if group.path == slot}
    same = [(a, b) for a in seen for b in seen if a < b and seen[a] == seen[b]]
    assert same == []


def test_the_same_settings_make_no_difference(observe: Observe):
    assert observe("train.tensorboard=true") == observe("train.tensorboard=true")


def test_an_inert_setting_is_found(
    observe: Observe, tiny_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
):
    (group,) = (g for g in GROUPS if g.path == "model.norm" and g.config is LayerNorm)
    build = LayerNorm.build
    monkeypatch.setattr(LayerNorm, "build", lambda self, width: build(self.but(eps=1e-5), width))
    assert inert_settings(group, observe, tiny_recipe(*group.settings)) == ["model.norm.eps"]
