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
from cases import DENSE_CASES, T, V
from expert_cases import EXPERT_CASES
from torch import Tensor

from gptlab.interop.families import families
from gptlab.interop.folder import Folder
from gptlab.interop.matching import choose_family
from gptlab.interop.reading import read_settings, read_weights
from gptlab.interop.writing import write_config, write_weights
from gptlab.model.gpt import GPT, Model

transformers = pytest.importorskip("transformers")

CASES = DENSE_CASES | EXPERT_CASES


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


def test_the_readme_names_every_family():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert [name for name in families() if f"`{name}`" not in readme] == []
