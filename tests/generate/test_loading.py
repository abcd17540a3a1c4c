import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import gptlab
from gptlab.generate import load
from gptlab.model.gpt import GPT, Model
from gptlab.runs import checkpoint
from gptlab.runs.folder import RunFolder
from gptlab.tokenizer import Encoder
from gptlab.tokenizer.char import Char

TEXT = "To be, or not to be: that is the question.\n"


@pytest.fixture
def encoder() -> Encoder:
    return Char().train([TEXT])


@pytest.fixture
def make_run(tmp_path, tiny, encoder) -> Callable[..., RunFolder]:
    """Make a run of a tiny model. A checkpoint's norm before the head says its step."""

    def make(steps=(40,), **settings) -> RunFolder:
        config = tiny(vocab_size=encoder.vocab_size, **settings)
        tree = {"name": "tiny", "model": config.model_dump(), "tokenizer": {"type": "char"}}
        run = RunFolder.create(tmp_path, "tiny", yaml.safe_dump(tree))
        encoder.save(run.tokenizer)
        model = config.build(seed=3)
        for step in steps:
            save(run, model, step)
        return run

    return make


def save(run: RunFolder, model: GPT, step: int) -> None:
    weights = model.state_dict() | {"ends.norm.weight": torch.full((32,), float(step))}
    checkpoint.save(run.checkpoints, step, {"model": weights, "optimizer": {}}, {})


def step_of(model: GPT) -> float:
    return model.state_dict()["ends.norm.weight"][0].item()


def damage(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def other_config(run: RunFolder, config: Model) -> None:
    tree = run.config_tree() | {"model": config.model_dump()}
    run.write_config(yaml.safe_dump(tree))


@pytest.mark.parametrize("head", ["tied", "untied"])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_loaded_model_speaks_as_the_saved_one(make_run, tiny, encoder, head, positions):
    run = make_run([1], head=head, positions=positions, norm="layer_norm")
    speaker = load(run.path, device="cpu")
    same = tiny(vocab_size=encoder.vocab_size, head=head, positions=positions, norm="layer_norm")
    tokens = torch.arange(16)[None]
    assert speaker.model(tokens).equal(same.build(seed=3).eval()(tokens))
    assert speaker.config == run.config_tree()
    assert speaker.tokenizer.fingerprint() == encoder.fingerprint()
    assert not speaker.model.training
    assert all(p.requires_grad for p in speaker.model.parameters())
    assert set(speaker.generate("To be", max_tokens=40)) <= set(TEXT)


def test_a_run_can_be_moved_and_is_loaded_by_the_package_too(make_run, tmp_path):
    run = make_run()
    before = gptlab.load(str(run.path)).generate("To be", seed=1)
    shutil.move(run.path, tmp_path / "elsewhere")
    assert gptlab.load(tmp_path / "elsewhere").generate("To be", seed=1) == before


def test_last_best_or_a_step(make_run):
    run = make_run([10, 20, 30])
    for step, val_loss in [(5, 0.1), (10, 2.5), (15, 0.2), (20, 2.0), (25, None), (30, 2.2)]:
        run.append_metrics({"step": step, "val_loss": val_loss})
    run.append_metrics({"step": 20, "train_loss": 9.0})
    assert step_of(load(run.path).model) == 30
    assert step_of(load(run.path, "last").model) == 30
    assert step_of(load(run.path, "best").model) == 20
    assert step_of(load(run.path, "10").model) == 10
    shutil.rmtree(run.checkpoints / "step-00000020")
    assert step_of(load(run.path, "best").model) == 30
    for which in ("20", "-1", "first", ""):
        with pytest.raises(ValueError, match=f"--checkpoint={which} must be .*there: 10, 30$"):
            load(run.path, which)


def test_the_last_checkpoint_that_is_whole_is_taken(make_run):
    run = make_run([10, 20])
    damage(run.checkpoints / "step-00000020" / "model.safetensors")
    with pytest.warns(UserWarning, match="step-00000020 is damaged"):
        assert step_of(load(run.path).model) == 10
    with pytest.raises(ValueError, match="step-00000020 is damaged"):
        load(run.path, "20")
    damage(run.checkpoints / "step-00000010" / "model.safetensors")
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(ValueError, match="all damaged"),
    ):
        load(run.path)


def test_the_optimizer_is_not_read(make_run):
    run = make_run([10])
    damage(run.checkpoints / "step-00000010" / "optimizer.safetensors")
    assert step_of(load(run.path, "10").model) == 10


def test_no_run_no_checkpoint_and_no_validation_loss_are_said(make_run, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere is not a run's folder"):
        load(tmp_path / "nowhere")
    run = make_run([])
    for which in ("last", "best", "10"):
        with pytest.raises(ValueError, match="has no checkpoint yet"):
            load(run.path, which)
    save(run, load_config(run).build(), 10)
    with pytest.raises(ValueError, match="no checkpoint with a validation loss"):
        load(run.path, "best")


def load_config(run: RunFolder) -> Model:
    return Model.parse(run.config_tree()["model"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"d_model": 64}, r"embedding.weight is \(\d+, 32\), not \(\d+, 64\).*and \d+ more"),
        ({"n_layers": 3}, r"blocks.2.attention.query.weight is missing"),
        ({"n_layers": 1}, r"blocks.1.attention.query.weight is not in this architecture"),
        ({"head": "tied"}, r"head.matrix.weight is not in this architecture$"),
    ],
)
def test_another_architecture_is_refused(make_run, tiny, encoder, settings, message):
    run = make_run()
    other_config(run, tiny(vocab_size=encoder.vocab_size, **settings))
    with pytest.raises(ValueError, match=message):
        load(run.path)


def test_a_config_without_a_model_is_refused(make_run):
    run = make_run()
    run.write_config("name: tiny\ntokenizer: char\n")
    with pytest.raises(ValueError, match="model: Field required"):
        load(run.path)
    run.write_config("model: {positions: rotray}\ntokenizer: char\n")
    with pytest.raises(ValueError, match=r"model.positions: .*did you mean 'rotary'"):
        load(run.path)


def test_bfloat16_weights_stay_bfloat16_and_speak(make_run, encoder):
    run = make_run([])
    model = load_config(run).build().bfloat16()
    checkpoint.save(run.checkpoints, 1, {"model": model.state_dict()}, {})
    speaker = load(run.path)
    weights = speaker.model.state_dict()
    assert all(weights[name].equal(saved) for name, saved in model.state_dict().items())
    assert {p.dtype for p in speaker.model.parameters()} == {torch.bfloat16}
    assert len(speaker.generate("To be", max_tokens=40, seed=1)) == 40


def test_a_device_that_is_not_there_is_named(make_run, monkeypatch):
    run = make_run()
    with pytest.raises(ValueError, match="--device=tpu must be auto, cpu, cuda, mps"):
        load(run.path, device="tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--device=cuda, but there is none here"):
        load(run.path, device="cuda")
    assert load(run.path).model.embedding.weight.device.type == "cpu"


LOAD = """
import sys
from gptlab import load

load(sys.argv[1], device="cpu").generate(max_tokens=30)
print(*sys.modules, sep="\\n")
"""


def test_opening_a_run_does_not_wait_for_the_compiler(make_run):
    run = make_run()
    command = [sys.executable, "-c", LOAD, str(run.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    can_wait = {"torch._dynamo", "torch._inductor", "sympy", "gptlab.train", "scipy"}
    assert sorted(can_wait.intersection(done.stdout.split())) == []
