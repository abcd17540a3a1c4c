"""Studies that take a second: a tiny recipe, on a text made up here."""

import random
from pathlib import Path
from typing import Any

import pytest
from studies import Conduct, MakeRecipe, MakeStudy

from gptlab import files, machine
from gptlab.compare import jobs
from gptlab.compare.conduct import How, conduct
from gptlab.compare.results import Results
from gptlab.compare.study import Study
from gptlab.recipes import find_recipe
from gptlab.train.recipe import Recipe

TINY = (
    "model.context_length=8",
    "model.d_model=16",
    "model.n_layers=2",
    "model.attention.n_heads=2",
    "train.batch_tokens=64",
    "train.steps=6",
    "train.evaluate_every=3",
    "train.checkpoint_every=2",
    "train.log_every=2",
    "train.precision=float32",
    "train.device=cpu",
    "seed=3",
)
VARIANTS = {"rope": ("model.positions=rotary",), "swiglu": ("model.mlp=swiglu",)}


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefgh", k=draw.randint(1, 6))) for _ in range(40)]
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(" ".join(draw.choices(words, k=500)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_recipe(text_file: Path) -> MakeRecipe:
    def make(*settings: str) -> Recipe:
        return find_recipe("shakespeare").override([f"data.path={text_file}", *TINY, *settings])

    return make


@pytest.fixture(scope="session")
def study(tiny_recipe: MakeRecipe) -> MakeStudy:
    """Declare a tiny study: `study("train.steps=9", seeds=(0,), match="params")`."""

    def make(*settings: str, **changes: Any) -> Study:
        tree = {"name": "tiny", "variants": VARIANTS, "seeds": (0, 1)} | changes
        return Study.parse({"base": tiny_recipe(*settings).model_dump(mode="json")} | tree)

    return make


@pytest.fixture
def how(tmp_path: Path) -> How:
    return How(root=tmp_path / "runs", studies=tmp_path / "studies", jobs=1, command="gptlab")


@pytest.fixture
def run(how: How) -> Conduct:
    """Conduct a study in this process, and say nothing."""

    def conducted(study: Study, how: How = how) -> Results:
        return conduct(study, how, lambda model: [], lambda text: None)

    return conducted


@pytest.fixture
def performed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which runs are run."""
    names: list[str] = []
    perform = jobs.perform

    def spy(task: jobs.Task, say: object) -> jobs.Ended:
        names.append(task.name.rpartition("-")[0])
        return perform(task, say)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(jobs, "perform", spy)
    return names


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk, where nobody pulls the plug."""
    monkeypatch.setattr(files, "sync", lambda path: None)
    monkeypatch.setattr(files, "sync_folder", lambda path: None)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs have one thread each, however many go side by side: bit for bit the same."""
    monkeypatch.setattr(machine, "usable_cores", lambda: 1)
