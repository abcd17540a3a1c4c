"""`gptlab bench`: a measurement while it goes, and what came of it."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gptlab.bench.protocol import Progress, Tell
from gptlab.bench.record import Record
from gptlab.files import check_place
from gptlab.show._bench_plot import save_plot
from gptlab.show._bench_table import about_machine, headings, markdown, notes, rows
from gptlab.show._print import print_table
from gptlab.show._tokenizer_plot import check_plot
from gptlab.train.display import Display, duration


@dataclass(frozen=True)
class Output:
    """Where results go beside the terminal: JSON, a picture; as Markdown instead of a table."""

    json: Path | None = None
    plot: Path | None = None
    markdown: bool = False

    def check(self) -> None:
        """Raise ValueError for files that cannot be written, before anything is measured."""
        if self.plot:
            check_plot(self.plot)
        for file in (self.json, self.plot):
            if file and not file.absolute().parent.is_dir():
                raise ValueError(f"{file}: there is no folder {file.parent}")
        if self.json:
            check_place(self.json)


def bench(measure: Callable[[Tell], Record], command: str, output: Output) -> None:
    """Measure, then print and write what was found, also if Ctrl-C ended it early."""
    output.check()
    began = math.inf
    with Display(1) as display:

        def tell(progress: Progress) -> None:
            nonlocal began
            done = progress.turn
            if progress.turns > 1:  # processes have started
                began = min(began, time.monotonic())
            passed = time.monotonic() - began
            left = (
                f"{duration(passed / done * (progress.turns - done))} left"
                if done
                else "no estimate yet"
            )
            display.total_steps = progress.turns
            display.update(done, progress.what, left)

        record = measure(tell).but(command=command)
    if output.json:
        record.save(output.json)
    report([record], output)
    if record.interrupted:
        raise KeyboardInterrupt


def report(records: Sequence[Record], output: Output) -> None:
    """Print and draw records."""
    for number, record in enumerate(records):
        if output.markdown:
            print(markdown(record))
        else:
            print_table(record.title, headings(record), rows(record))
            print("\n".join([record.about, *notes(record), about_machine(record)]), end="\n\n")
        if output.plot:
            save_plot(record, _numbered(output.plot, number))


def report_files(paths: Sequence[Path], output: Output) -> None:
    """Print and draw what was written as JSON before."""
    output.check()
    report([Record.load(path) for path in paths], output)


def _numbered(file: Path, number: int) -> Path:
    """The file of a further record: out.json, out-2.json."""
    return file.with_stem(f"{file.stem}-{number + 1}") if number else file
