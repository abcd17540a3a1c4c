"""The same seed gives the same batches to every architecture, and nothing else changes training."""

from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from ends import last_files, metrics, quiet
from torch import Tensor

from gptlab.evaluate.validation import val_places, validation_loss
from gptlab.kernels.places import Places
from gptlab.model.gpt import GPT
from gptlab.train.loop import take_step
from gptlab.train.opening import begin
from gptlab.train.optimizers import OptimizerSet
from gptlab.train.recipe import Recipe
from gptlab.train.run import start_run
from gptlab.train.session import Session

MakeRecipe = Callable[..., Recipe]

pytestmark = pytest.mark.usefixtures("quick_disk")

ARCHITECTURES = {
    "gpt2": (),
    "modern": (
        "model.positions=rotary",
        "model.norm=rms_norm",
        "model.mlp=swiglu",
        "model.residual=sandwich",
        "model.head=untied",
        "model.attention={type: grouped_query, n_heads: 4, n_kv_heads: 1, window: 3}",
        "model.d_model=32",
        "model.n_layers=3",
        "model.dropout=0.2",
        "optimizer=muon",
        "schedule=constant",
    ),
}


def open_session(recipe: Recipe, root: Path) -> Session:
    return begin(recipe, root, quiet, "tiny")


def digest(x_BT: Tensor, y_BT: Tensor) -> str:
    return sha256(x_BT.numpy().tobytes() + y_BT.numpy().tobytes()).hexdigest()


def digests(session: Session, steps: int) -> list[str]:
    batches = [session.batches.at(step) for step in range(steps)]
    return [sha256(b.x_NT.tobytes() + b.y_NT.tobytes()).hexdigest() for b in batches]


def test_two_architectures_have_the_same_first_thousand_batches(
    tiny_recipe: MakeRecipe, tmp_path: Path
):
    found = {
        name: digests(open_session(tiny_recipe(*settings, f"name={name}"), tmp_path), 1000)
        for name, settings in ARCHITECTURES.items()
    }
    assert found["gpt2"] == found["modern"]
    assert len(set(found["gpt2"])) > 900
    other = digests(open_session(tiny_recipe("seed=4", "name=other"), tmp_path), 1000)
    assert len(set(other) & set(found["gpt2"])) < 10


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_training_reads_exactly_these(
    name: str, tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[str] = []
    losses = GPT.losses

    def spy(model: GPT, x_BT: Tensor, y_BT: Tensor, places: None) -> dict[str, Tensor]:
        seen.append(digest(x_BT, y_BT))
        return losses(model, x_BT, y_BT)

    monkeypatch.setattr(GPT, "losses", spy)
    recipe = tiny_recipe(*ARCHITECTURES[name], "train.steps=30")
    session = start_run(recipe, tmp_path, say=quiet).session
    assert seen == digests(session, 30)


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_portions_of_a_batch_add_up_to_it(
    name: str,
    is_large: bool,
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
):
    """Eight rows computed 1, 2, 4 or 8 at once: the same loss, gradient and validation loss."""
    forms: Counter[str] = request.getfixturevalue("as_if_large") if is_large else Counter()
    gradients: dict[str, Tensor] = {}

    def keep(optimizers: OptimizerSet, *given: Any) -> None:
        for name, parameter in optimizers.parameters.items():
            assert parameter.grad is not None, name
            gradients[name] = parameter.grad.double()

    monkeypatch.setattr(OptimizerSet, "step", keep)
    recipe = tiny_recipe(
        *ARCHITECTURES[name], "model.dropout=0", "train.batch_tokens=64", "train.grad_clip=0"
    )
    found = {}
    for rows in (8, 4, 2, 1):
        changed = recipe.train.but(micro_batch_tokens=rows * 8)
        session = open_session(recipe.but(name=f"rows-{rows}", train=changed), tmp_path)
        assert [len(each.x_BT) for each in session.portions()] == [rows] * (8 // rows)
        take_step(session)
        val_loss = validation_loss(session.model, session.corpus.val, rows)
        found[rows] = (session.loss, session.grad_norm, val_loss, dict(gradients))
    assert bool(forms["LinearCrossEntropy"]) == is_large
    loss, norm, val_loss, gradient = found.pop(8)
    scale = max(g.abs().max() for g in gradient.values())
    for its_loss, its_norm, its_val_loss, its_gradient in found.values():
        assert its_loss == pytest.approx(loss, rel=1e-6)
        assert its_norm == pytest.approx(norm, rel=1e-6)
        assert its_val_loss == pytest.approx(val_loss, rel=1e-6)
        for key, expected in gradient.items():
            error = (its_gradient[key] - expected).abs().max() / scale
            assert error <= 1e-6, key


@pytest.mark.parametrize(
    "settings",
    [
        ("train.evaluate_every=1",),
        ("train.evaluate_every=null",),
        ("train.evaluate_every=2", "train.sample_tokens=30"),
        ("train.sample_tokens=0",),
        ("train.checkpoint_every=1", "train.log_every=1"),
    ],
)
def test_looking_at_a_run_does_not_change_it(
    settings: tuple[str, ...], tiny_recipe: MakeRecipe, tmp_path: Path
):
    """With dropout, which draws from torch's generator, and nothing else may."""
    recipe = tiny_recipe("model.dropout=0.2", "name=a")
    path = start_run(recipe, tmp_path, say=quiet).run.path
    other = start_run(tiny_recipe("model.dropout=0.2", *settings), tmp_path, say=quiet).run.path
    assert last_files(other) == last_files(path)
    assert metrics(other)[-1] == metrics(path)[-1]


def test_architectures_share_the_initial_values_of_what_they_share(
    tiny_recipe: MakeRecipe, tmp_path: Path
):
    base = dict(open_session(tiny_recipe("name=a"), tmp_path).model.named_parameters())
    changes = ("model.positions=rotary", "model.norm=rms_norm", "model.mlp=relu_squared")
    deeper = ("model.n_layers=3", "model.residual=parallel", "model.head=untied")
    for number, settings in enumerate((changes, changes + deeper)):
        recipe = tiny_recipe(*settings, f"name=b{number}", "model.initialization=zero_output")
        other = dict(open_session(recipe, tmp_path).model.named_parameters())
        drawn = [
            name
            for name in base.keys() & other.keys()
            if base[name].ndim == 2 and "output" not in name and "down" not in name
        ]
        assert len(drawn) >= 9
        for name in drawn:
            assert torch.equal(base[name], other[name]), name
            assert base[name].std() > 0


@pytest.mark.parametrize("settings", [(), ("batching.reset_positions=false",)])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_packed_documents_are_validated_as_they_are_trained(
    settings: tuple[str, ...], positions: str, tiny_recipe: MakeRecipe, tmp_path: Path
):
    """No token of another document is seen: as if each document, in its windows, stood alone."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i}.txt").write_text("abcdefgh"[: 2 + i % 7] * 2)
    recipe = tiny_recipe(
        f"data.path={folder}",
        "batching=packed",
        *settings,
        f"model.positions={positions}",
        "data.val_fraction=0.5",
        "name=packed",
    )
    s = open_session(recipe, tmp_path)
    with torch.no_grad():
        for parameter in s.model.parameters():
            parameter *= 5  # what has learned something tells documents apart
    placed = val_places(s.corpus, s.recipe.batching, s.device)
    found = validation_loss(s.model, s.corpus.val, places=placed)
    tokens, T = torch.from_numpy(s.corpus.val[:].astype("int64")), 8
    total = 0.0
    for window in range(0, len(tokens) - 1, T):
        targets = range(window + 1, min(window + T + 1, len(tokens)))
        document = [sum(start <= t for start in s.corpus.val_starts) for t in targets]
        for d in set(document):
            at = [t for t, of in zip(targets, document, strict=True) if of == d]
            first = 0 if not settings else at[0] - 1 - window
            where = Places.counted(first, first + len(at))
            x, y = tokens[[t - 1 for t in at]][None], tokens[at][None]
            with torch.no_grad():
                total += s.model.eval().loss(x, y, "sum", where).item()
    assert found == pytest.approx(total / (len(tokens) - 1), rel=1e-5)
    assert found != pytest.approx(validation_loss(s.model, s.corpus.val), rel=1e-4)
