"""Recipes of gptlab's, as its own verbs run them."""

import sys
from collections.abc import Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from gptlab.bench.contestants._scoring import score
from gptlab.generate import LanguageModel, load
from gptlab.kernels.cross_entropy import logit_losses
from gptlab.parts.head import LogitHead
from gptlab.tokenizer import Encoder, open_encoder
from gptlab.train.compiling import WhileCompiled
from gptlab.train.display import Display
from gptlab.train.loop import train as run_loop
from gptlab.train.opening import begin
from gptlab.train.recipe import Recipe
from gptlab.train.report import Report
from gptlab.train.session import Session
from gptlab.train.signals import Signals

ENDLESS = 10**12  # steps


class Paced(Report):
    """A run's report, which waits while others have their turn."""

    def __init__(self, session: Session, display: Display, beat: Any):
        super().__init__(session, display)
        self.beat = beat

    def progress(self) -> None:
        """Report as ever, then be paced."""
        super().progress()
        self.beat(self._loss)

    def _loss(self) -> float:
        self.s.read()  # on a GPU it is read a step late
        return self.s.loss


def train(job: dict[str, Any], beat: Any) -> None:
    """Train as `gptlab train` does; without an end, unless it is a race."""
    session = _begin(job)
    if "race" not in job:
        session.steps = ENDLESS
    elif not np.array_equal(session.corpus.val[:], np.fromfile(job["val"], np.uint16)):
        raise ValueError("it has other validation tokens than the rest: its losses say nothing")
    if job.get("materialised"):
        materialise(session.model.head)
    model, recipe = session.model, session.recipe

    def forward(x_BT: Tensor, y_BT: Tensor) -> Tensor:
        return model(x_BT)

    with Display(session.steps, Console(file=sys.stderr)) as display:
        report = Paced(session, display, beat)
        beat.ready(
            recipe.train.batch_tokens,
            parameters=sum(p.numel() for p in model.parameters()),
            precision=session.precision,
            compiled=isinstance(session.update, WhileCompiled),
            score=partial(score, model, forward, job),
        )
        run_loop(session, report, Signals())
    report.close()


def generate(job: dict[str, Any], beat: Any) -> None:
    """Write as a model that `gptlab.load` opened does."""
    written = _saved_and_loaded(job)
    n, length, rows = job["prompt"], job["tokens"], job["rows"]
    written.tokenizer = Numbered(job["vocab_size"])
    prompts = [" ".join(["1"] * n)] * rows
    beat.ready(length * rows, precision=precision_of(written.model))
    while True:
        texts = written.generate(prompts, max_tokens=length, temperature=0.8, top_k=50)
        assert [len(text.split()) for text in texts] == [length] * rows
        beat()


def tokenize(job: dict[str, Any], beat: Any) -> None:
    """Encode as `gptlab prepare` and `gptlab train` do."""
    encoder = open_encoder(job["tokenizer"])
    documents = Path(job["documents"]).read_text(encoding="utf-8").split("\0")
    ids = encoder.encode_all(documents)
    beat.ready(job["megabytes"], tokens=sum(map(len, ids)), checksum=_checksum(ids))
    while True:
        encoder.encode_all(documents)
        beat()


def materialise(head: LogitHead) -> None:
    """Let training hold all logits at once, as most code does."""

    def losses(x_BTD: Tensor, targets_BT: Tensor, embedding_VD: Tensor) -> dict[str, Tensor]:
        logits_BTV = head(x_BTD, embedding_VD)
        assert logits_BTV.shape[:2] == targets_BT.shape
        return logit_losses(logits_BTV.flatten(0, 1), targets_BT.flatten())

    head.losses = losses


def precision_of(model: nn.Module) -> str:
    """The smallest numbers that weights consist of."""
    kinds = {x.dtype for x in [*model.parameters(), *model.buffers()]}
    small = {torch.int8: "int8", torch.bfloat16: "bf16"}
    return next((name for kind, name in small.items() if kind in kinds), "float32")


class Numbered(Encoder):
    """Every id of a model as its number, so that each can be drawn, and none ends a text."""

    def __init__(self, vocab_size: int):
        self.vocab_size, self.end_of_text = vocab_size, None

    def encode_all(self, documents: Sequence[str]) -> list[np.ndarray]:
        return [np.array([int(word) for word in text.split()], np.int64) for text in documents]

    def bytes_of(self, id: int) -> bytes:
        return f"{id} ".encode()

    def tree(self) -> dict[str, Any]:
        return {}


def _begin(job: dict[str, Any]) -> Session:
    recipe = Recipe.parse(job["recipe"])
    torch.manual_seed(recipe.seed)
    return begin(recipe, Path(job["folder"]), lambda text: None, recipe.name)


def _saved_and_loaded(job: dict[str, Any]) -> LanguageModel:
    """Open a run that another process has saved, whose memory is not this one's."""
    process = get_context("spawn").Process(target=_save, args=(job,), daemon=True)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the model could not be saved (exit code {process.exitcode})")
    path = Path(job["folder"]) / Recipe.parse(job["recipe"]).name
    device = Recipe.parse(job["recipe"]).train.device
    return load(path, device=device, quantize=job.get("quantize", "none"))


def _save(job: dict[str, Any]) -> None:
    _begin(job).save()


def _checksum(ids: Sequence[np.ndarray]) -> int:
    return int(sum((each.astype(np.int64) * np.arange(1, len(each) + 1)).sum() for each in ids))
