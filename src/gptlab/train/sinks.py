"""Where metrics go beside metrics.jsonl: TensorBoard events, Weights & Biases.

A sink that fails is dropped with a warning; training never depends on one.
"""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

Metrics = Mapping[str, float | int | None]


class Sink(Protocol):
    """Something that takes a line of metrics."""

    def write(self, metrics: Metrics) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Events in the run folder; lines after the step that a run resumes from are hidden."""

    def __init__(self, folder: Path, first_step: int):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=first_step + 1)

    def write(self, metrics: Metrics) -> None:
        for name, value in metrics.items():
            if name != "step" and value is not None:
                self.writer.add_scalar(name, value, metrics["step"])

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """A mirror of the same numbers in a project at Weights & Biases."""

    def __init__(self, project: str, name: str, config: dict[str, Any], folder: Path):
        import wandb  # pyright: ignore[reportMissingImports]

        self.run = wandb.init(
            project=project, name=name, id=name, resume="allow", config=config, dir=str(folder)
        )

    def write(self, metrics: Metrics) -> None:
        self.run.log({k: v for k, v in metrics.items() if v is not None}, step=metrics["step"])

    def close(self) -> None:
        self.run.finish()


class Sinks:
    """All sinks of a run, guarded."""

    def __init__(self, warn: Callable[[str], None]):
        self.warn = warn
        self.sinks: list[Sink] = []

    def open(self, make: Callable[[], Sink]) -> None:
        """Add a sink, if it can be made."""
        self._guard(lambda: self.sinks.append(make()))

    def write(self, metrics: Metrics) -> None:
        """Give a line of metrics to every sink."""
        for sink in list(self.sinks):
            self._guard(lambda sink=sink: sink.write(metrics), sink)

    def close(self) -> None:
        """Finish writing."""
        for sink in list(self.sinks):
            self._guard(sink.close, sink)

    def _guard(self, act: Callable[[], None], sink: Sink | None = None) -> None:
        try:
            act()
        except Exception as error:  # whatever a tracker throws, the run goes on
            if sink in self.sinks:
                self.sinks.remove(sink)
            name = f" ({type(sink).__name__})" if sink else ""
            self.warn(f"a metrics tracker{name} failed and is left out from here on: {error}")


def is_installed(package: str) -> bool:
    """Tell whether an optional package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None
