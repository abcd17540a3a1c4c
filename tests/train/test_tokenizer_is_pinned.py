"""A run's tokenizer is the one it was started with, wherever the run is opened."""

from collections.abc import Callable
from pathlib import Path

import pytest
from ends import quiet

from gptlab.generate import load
from gptlab.runs.folder import ENVIRONMENT, RunFolder
from gptlab.tokenizer import find_chat, open_encoder
from gptlab.tokenizer.bpe import BPE
from gptlab.train.recipe import Recipe
from gptlab.train.run import resume_run, start_run

SETTINGS = ("tokenizer=bpe", "tokenizer.vocab_size=270", "train.steps=2")


@pytest.fixture
def run(tiny_recipe: Callable[..., Recipe], tmp_path: Path, quick_disk: None) -> RunFolder:
    return start_run(tiny_recipe(*SETTINGS), tmp_path / "runs", say=quiet).run


def assert_refused(run: RunFolder) -> None:
    for use in (lambda: load(run.path), lambda: resume_run(run.path, ["train.steps=3"], say=quiet)):
        with pytest.raises(ValueError, match="is not the tokenizer of this run: its sha256 is"):
            use()


def test_another_tokenizer_of_the_same_size_is_refused(run: RunFolder):
    load(run.path)
    BPE(vocab_size=270).train(["quite another text, another one " * 9]).save(run.tokenizer)
    assert open_encoder(run.path).vocab_size == 270
    assert_refused(run)


def test_another_chat_template_is_refused(run: RunFolder):
    encoder = open_encoder(run.path)
    encoder.use_chat(find_chat("plain"))
    encoder.save(run.tokenizer)
    assert_refused(run)
    encoder.chat = None
    encoder.save(run.tokenizer)
    load(run.path)


def test_a_run_that_does_not_say_is_opened(run: RunFolder):
    (run.path / ENVIRONMENT).unlink()
    load(run.path)


def test_settings_from_before_there_were_special_tokens(run: RunFolder):
    tree = (run.path / "config.yaml").read_text()
    old = [line for line in tree.splitlines() if not line.startswith(("  special:", "  pad_to_"))]
    assert len(old) == len(tree.splitlines()) - 2
    (run.path / "config.yaml").write_text("\n".join(old))
    load(run.path)
    resume_run(run.path, ["train.steps=3"], say=quiet)
