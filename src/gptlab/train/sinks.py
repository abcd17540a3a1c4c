"""Where metrics go beside metrics.jsonl: TensorBoard events, Weights & Biases.

A sink that fails or hangs is left out with a warning; training never depends on one.
"""

import importlib.util
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Full, Queue
from threading import Thread
from typing import Any, Protocol

PATIENCE = 15.0  # seconds that all sinks together have to finish after the run's end
MAX_WAITING = 1000  # lines that a sink may be behind

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


class Feeder(Thread):
    """Makes a sink and feeds it, in a thread of its own: training never waits for a sink.

    It is made when there is something to write: importing it would hold up the first step.
    """

    def __init__(self, name: str, make: Callable[[], Sink], warn: Callable[[str], None]):
        super().__init__(name=name, daemon=True)
        self.make, self.warn = make, warn
        self.lines: Queue[Metrics | None] = Queue(MAX_WAITING)
        self.start()

    def run(self) -> None:
        try:
            sink = None
            while (line := self.lines.get()) is not None:
                sink = sink or self.make()
                sink.write(line)
            if sink:
                sink.close()
        except Exception as error:  # whatever a tracker throws, the run goes on
            self.warn(f"{self.name} failed and is left out from here on: {error}")

    def put(self, line: Metrics | None) -> bool:
        """Hand over a line, None for the end; False if the sink takes no more."""
        try:
            self.lines.put_nowait(line)
        except Full:
            self.warn(f"{self.name} hangs and is left out from here on")
            return False
        return self.is_alive()


class Sinks:
    """All sinks of a run."""

    def __init__(self, warn: Callable[[str], None]):
        self.warn = warn
        self.feeders: list[Feeder] = []

    def open(self, name: str, make: Callable[[], Sink]) -> None:
        """Add a sink."""
        self.feeders.append(Feeder(name, make, self.warn))

    def write(self, line: Metrics | None) -> None:
        """Give a line of metrics to every sink; one that has failed is left out."""
        self.feeders = [feeder for feeder in self.feeders if feeder.put(line)]

    def close(self) -> None:
        """Finish writing, but do not wait for ever."""
        self.write(None)
        end = time.monotonic() + PATIENCE
        for feeder in self.feeders:
            feeder.join(max(0.0, end - time.monotonic()))
            if feeder.is_alive():
                self.warn(f"{feeder.name} did not finish in {PATIENCE:g} seconds")


def is_installed(package: str) -> bool:
    """Tell whether an optional package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None
