"""The report of a run while it goes: lines of metrics, and what a person sees."""

import time
from functools import cached_property, partial

from gptlab import machine
from gptlab.evaluate.validation import bits_per_byte, perplexity
from gptlab.model.accounting import training_flops_per_token
from gptlab.train.display import Display, duration
from gptlab.train.session import Session
from gptlab.train.sinks import Sinks, TensorBoard, Wandb, is_installed


class Report:
    """Writes metrics and keeps the display up to date.

    `last_step`: the last step whose report is complete.
    """

    def __init__(self, session: Session, display: Display):
        self.s, self.display = session, display
        lines, _ = session.run.metrics()
        self.last_step = lines[-1]["step"] if lines else 0
        evaluations = session.run.evaluations()
        self.val_loss: float | None = evaluations[-1]["val_loss"] if evaluations else None
        self.flops_per_token = training_flops_per_token(session.recipe.model)
        self.began, self.first_step = time.monotonic(), session.step
        self.mark = (session.step, session.seconds)
        self.tokens_per_second = 0.0
        self.sinks = Sinks(display.say)
        self._open_sinks()
        if session.device.type != "cpu":
            _ = self.peak_flops  # while there is memory for it

    @cached_property
    def peak_flops(self) -> float:
        """What the device reaches in a large product; measured when somebody wants to know."""
        return machine.peak_flops(self.s.device.type, self.s.precision)

    @property
    def utilization(self) -> float:
        """The fraction of that which the model's FLOPs make up."""
        return self.tokens_per_second * self.flops_per_token / self.peak_flops

    def _open_sinks(self) -> None:
        s, settings = self.s, self.s.recipe.train
        if settings.tensorboard and is_installed("tensorboard"):
            self.sinks.open("TensorBoard", partial(TensorBoard, s.run.path / "tensorboard", s.step))
        if settings.wandb:
            config = s.recipe.model_dump(mode="json")
            make = partial(Wandb, settings.wandb, s.recipe.name, config, s.run.path)
            self.sinks.open("Weights & Biases", make)

    def step(self, val_loss: float | None, last: bool) -> None:
        """Complete the report of a step: write its line if one is due."""
        s = self.s
        if val_loss is not None:
            self.val_loss = val_loss
        if val_loss is not None or last or s.step == 1 or s.step % s.recipe.train.log_every == 0:
            self._measure_speed()
            line = self._line(val_loss)
            s.run.append_metrics(line)
            self.sinks.write(line)
        if val_loss is not None:
            self.display.update(s.step, self._results(), self._pace(), important=True)
        self.last_step = s.step

    def progress(self) -> None:
        """Show where the run is."""
        if self.tokens_per_second == 0.0:
            self._measure_speed()
        self.display.update(self.s.step, self._results(), self._pace())

    def close(self) -> None:
        """Finish writing."""
        self.sinks.close()

    def _measure_speed(self) -> None:
        s = self.s
        step, seconds = self.mark
        if s.seconds > seconds:
            tokens = (s.step - step) * s.recipe.train.batch_tokens
            self.tokens_per_second = tokens / (s.seconds - seconds)
            self.mark = (s.step, s.seconds)

    def _line(self, val_loss: float | None) -> dict[str, float | int | None]:
        s = self.s
        return {
            "step": s.step,
            "tokens": s.tokens,
            "seconds": round(s.seconds, 4),
            **{f"train_{name}": loss for name, loss in s.losses.items()},
            "val_loss": val_loss,
            "perplexity": None if val_loss is None else perplexity(val_loss),
            "bits_per_byte": None if val_loss is None else self._bits_per_byte(val_loss),
            "lr": s.lr,
            "grad_norm": s.grad_norm,
            "tokens_per_second": round(self.tokens_per_second, 1),
            "model_flops_utilization": round(self.utilization, 4),
        }

    def _bits_per_byte(self, val_loss: float) -> float:
        corpus = self.s.corpus
        return bits_per_byte(val_loss, len(corpus.val) - 1, corpus.val_bytes)

    def _results(self) -> str:
        parts = [f"{self.s.tokens:,} tokens", f"loss {self.s.loss:.3f}"]
        if self.val_loss is not None:
            parts.append(f"val {self.val_loss:.4f}")
            parts.append(f"{self._bits_per_byte(self.val_loss):.3f} bits/byte")
        return " · ".join(parts)

    def _pace(self) -> str:
        s, speed = self.s, f"{self.tokens_per_second:,.0f} tokens/s"
        if self.tokens_per_second:
            speed += f" · {self.utilization:.0%} of peak"
        done = s.step - self.first_step
        if not done or s.is_over():
            return speed
        left = (time.monotonic() - self.began) / done * (s.steps - s.step)
        if s.recipe.train.max_seconds:
            left = min(left, s.recipe.train.max_seconds - s.seconds)
        return f"{speed} · {duration(left)} left"
