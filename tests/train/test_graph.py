"""Steps that are recorded: what is copied where, and what if they cannot be; all on a GPU."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ends import quiet

from gptlab.kernels.places import Places
from gptlab.train.graph import WARM_UP, Recording
from gptlab.train.optimizers import OptimizerSet, fused_adamw
from gptlab.train.readings import Numbers
from gptlab.train.recipe import Recipe
from gptlab.train.run import start_run
from gptlab.train.session import Portion, Session

ON_GPU = torch.cuda.is_available()


class Stand:
    """What stands for a GPU: a step that is recorded is not taken, one that is played is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refusal: str | None = None):
        self.seen: list[tuple[int, int, float]] = []
        self.is_recording, self.static, self.refusal = False, [], refusal
        stream = SimpleNamespace(wait_stream=lambda other: None)
        monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
        monkeypatch.setattr(torch.cuda, "stream", nullcontext)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=self.replay))
        monkeypatch.setattr(torch.cuda, "graph", self.graph)

    def graph(self, graph: object) -> AbstractContextManager[object]:
        self.is_recording = True
        return nullcontext()

    def update(self, s: object, portions: Sequence[Portion]) -> Numbers:
        if self.is_recording:
            self.is_recording = False
            if self.refusal:
                raise RuntimeError(self.refusal)
            self.static = portions
            return {}
        for portion in portions:
            assert portion.places is not None
            first = int(portion.x_BT[0, 0]), int(portion.places.positions_BT[0, 0])
            self.seen.append((*first, float(portion.share)))
        return {}

    def replay(self) -> None:
        self.update(None, self.static)


def portion(i: int) -> Portion:
    x_BT = torch.full((2, 3), i)
    return Portion(x_BT, x_BT + 1, Places(x_BT + 2, x_BT + 3), i / 8)


SESSION = SimpleNamespace(model=torch.nn.Linear(1, 1))


def test_every_step_is_taken_once_on_its_own_batch(monkeypatch: pytest.MonkeyPatch):
    stand, warnings = Stand(monkeypatch), []
    recording = Recording(stand.update, warnings.append)
    for i in range(7):
        recording(SESSION, [portion(i), portion(i + 10)])  # pyright: ignore[reportArgumentType]
    expected = [(j, j + 2, j / 8) for i in range(7) for j in (i, i + 10)]
    assert stand.seen == expected
    assert warnings == []
    assert len(stand.static) == 2


def test_what_cannot_be_recorded_is_taken_call_by_call(monkeypatch: pytest.MonkeyPatch):
    stand, warnings = Stand(monkeypatch, "operation not permitted\nand more"), []
    recording = Recording(stand.update, warnings.append)
    for i in range(7):
        recording(SESSION, [portion(i)])  # pyright: ignore[reportArgumentType]
    assert [seen[0] for seen in stand.seen] == list(range(7))
    assert len(warnings) == 1
    assert warnings[0].endswith("this step cannot be recorded: operation not permitted")


def test_a_learning_rate_on_the_device_gives_the_same_steps():
    found = []
    for is_recordable in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        adamw = fused_adamw(model, ["weight", "bias"], 0.1, (0.9, 0.99), 1e-8, 0.1)
        optimizers = OptimizerSet(model, [adamw])
        if is_recordable:
            optimizers.make_recordable()
            adamw.param_groups[0]["capturable"] = False  # is for GPUs
        rates = [group["lr"] for group in adamw.param_groups]
        for multiplier in (1.0, 0.5, 0.25):
            optimizers.set_lr(multiplier)
            model(torch.ones(1, 3)).square().sum().backward()
            optimizers.step()
        now = [group["lr"] for group in adamw.param_groups]
        assert all((a is b) is is_recordable for a, b in zip(rates, now, strict=True))
        found.append(model.weight.detach().clone())
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-7)


def test_a_cpu_records_nothing(tiny_recipe: Callable[..., Recipe], tmp_path: Path):
    with pytest.raises(ValueError, match=r"^train\.cuda_graphs=true needs .* on cpu: use train"):
        start_run(tiny_recipe("train.cuda_graphs=true"), tmp_path, say=quiet)
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("settings", [
    (),
    ("model.dropout=0.1",),
    ("batching=packed",),
    ("train.micro_batch_tokens=8",),
    ("train.kernels=torch", "train.precision=bf16"),
])  # fmt: skip
def test_a_recorded_run_is_the_same(
    tiny_recipe: Callable[..., Recipe], tmp_path: Path, settings: tuple[str, ...]
):
    ends: list[Session] = []
    for i, graphs in enumerate(("false", "true")):
        given = ("train.device=cuda", f"train.cuda_graphs={graphs}", f"name=run{i}", *settings)
        ends.append(start_run(tiny_recipe(*given), tmp_path, say=quiet).session)
    plain, recorded = ends
    assert isinstance(recorded.update, Recording)
    assert recorded.update.graph is not None
    assert recorded.update.steps == recorded.step > WARM_UP
    assert recorded.loss == pytest.approx(plain.loss, rel=1e-3)
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(recorded.model.state_dict()[name], value, rtol=2e-2, atol=2e-3)
