"""The training loop: one page. What it works on is assembled in `session.py`."""

import time
from collections.abc import Sequence

import torch
from torch.nn.utils import get_total_norm

from gptlab.evaluate.validation import val_places, validation_loss
from gptlab.train.precision import autocast
from gptlab.train.readings import GRAD_NORM, Numbers
from gptlab.train.report import Report
from gptlab.train.session import Portion, Session
from gptlab.train.signals import Signals


def train(s: Session, report: Report, signals: Signals) -> str:
    """Train until the run ends; return why: `done`, `max_seconds`, `SIGINT` or `SIGTERM`."""
    while True:
        if report.last_step < s.step:  # a resumed run may still owe this for its last step
            settle(s, report, signals)
        if signals.received or s.is_over():
            s.save()
            return signals.received.name if signals.received else s.why_over()
        take_step(s)
        report.progress()


def take_step(s: Session) -> None:
    """Update the weights from one batch; FloatingPointError, and no change, if it is not finite."""
    began = time.perf_counter()
    s.optimizers.set_lr(s.multiplier(s.step))
    s.readings.send(s.step + 1, (s.update or update)(s, s.portions()))
    s.step += 1
    s.read(all_but=0 if is_wanted(s) else 1)
    s.seconds += time.perf_counter() - began


def update(s: Session, portions: Sequence[Portion]) -> Numbers:
    """Do what a step does on the device, and give what it finds: losses, and the gradient's norm.

    If that is not finite, weights stay as they are, by a decision of the device's own where it is
    read late.
    """
    sums: Numbers = {}
    for portion in portions:
        with autocast(s.precision, s.device):
            losses = s.model.losses(portion.x_BT, portion.y_BT, portion.places)
            total = torch.stack(list(losses.values())).sum() * portion.share
        total.backward()
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0) + loss.detach() * portion.share
    sums[GRAD_NORM] = norm = get_total_norm(s.optimizers.gradients())
    s.readings.check(sums, s.step + 1)
    s.optimizers.step(clipping(norm, s.recipe.train.grad_clip), s.readings.broken)
    s.model.after_step()
    return sums


def settle(s: Session, report: Report, signals: Signals) -> None:
    """Do what is due after a step: save first, then evaluate, then report."""
    settings, last = s.recipe.train, s.is_over()
    if last or is_due(s.step, settings.checkpoint_every):
        s.save()
    val_loss = None
    if last or is_due(s.step, settings.evaluate_every):
        report.display.announce("evaluating")
        with autocast(s.precision, s.device):
            places = val_places(s.corpus, s.recipe.batching, s.device)
            val_loss = validation_loss(
                s.model, s.corpus.val, stop=lambda: signals.received, places=places
            )
        if val_loss is None:
            return  # stopped on the way; the resumed run will do it
        s.write_sample()
    report.step(val_loss, last)
    if s.saved_step == s.step:
        s.prune()


def clipping(norm: torch.Tensor, limit: float | None) -> torch.Tensor | None:
    """Give what brings a gradient of this norm down to the limit when it is divided by it."""
    return ((norm + 1e-6) / limit).clamp(min=1.0) if limit else None


def is_wanted(s: Session) -> bool:
    """Tell whether the numbers of this step are, by a report or a checkpoint."""
    settings = s.recipe.train
    every = (settings.log_every, settings.evaluate_every, settings.checkpoint_every)
    return s.step == 1 or s.is_over() or any(is_due(s.step, each) for each in every)


def is_due(step: int, every: int | None) -> bool:
    """Tell whether something that happens every so many steps happens at this one."""
    return every is not None and step % every == 0
