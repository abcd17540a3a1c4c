"""The training loop: one page. What it works on is assembled in `session.py`."""

import math
import time

import torch
from torch.nn.utils import clip_grad_norm_, get_total_norm

from gptlab.evaluate.validation import validation_loss
from gptlab.train.precision import autocast
from gptlab.train.report import Report
from gptlab.train.session import Session
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
    sums: dict[str, torch.Tensor] = {}
    for portion in s.portions():
        with autocast(s.precision, s.device):
            losses = s.model.losses(portion.x_BT, portion.y_BT, portion.places)
            total = torch.stack(list(losses.values())).sum() * portion.share
        total.backward()
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0) + loss.detach() * portion.share
    s.losses = {name: loss.item() for name, loss in sums.items()}
    s.grad_norm = clip_gradient(s.model, s.recipe.train.grad_clip)
    if not all(map(math.isfinite, [*s.losses.values(), s.grad_norm])):
        raise FloatingPointError(
            f"the run diverged at step {s.step + 1}: loss {s.loss}, gradient norm {s.grad_norm}; "
            "try a lower optimizer.lr, a longer schedule.warmup or a smaller train.grad_clip"
        )
    s.optimizers.set_lr(s.multiplier(s.step))
    s.optimizers.step()
    s.model.after_step()
    s.step += 1
    s.seconds += time.perf_counter() - began


def settle(s: Session, report: Report, signals: Signals) -> None:
    """Do what is due after a step: save first, then evaluate, then report."""
    settings, last = s.recipe.train, s.is_over()
    if last or is_due(s.step, settings.checkpoint_every):
        s.save()
    val_loss = None
    if last or is_due(s.step, settings.evaluate_every):
        report.display.announce("evaluating")
        with autocast(s.precision, s.device):
            val_loss = validation_loss(
                s.model, s.corpus.val, stop=lambda: signals.received, places=s.val_places
            )
        if val_loss is None:
            return  # stopped on the way; the resumed run will do it
        s.write_sample()
    report.step(val_loss, last)
    if s.saved_step == s.step:
        s.prune()


def clip_gradient(model: torch.nn.Module, limit: float | None) -> float:
    """Scale the gradient down to the limit (none if 0 or null); return its norm before."""
    parameters = list(model.parameters())
    if limit:
        return clip_grad_norm_(parameters, limit).item()
    return get_total_norm([p.grad for p in parameters if p.grad is not None]).item()


def is_due(step: int, every: int | None) -> bool:
    """Tell whether something that happens every so many steps happens at this one."""
    return every is not None and step % every == 0
