"""What is seen of a preparation: the estimate before it, its progress, and what came of it."""

import re
import signal
import sys
import time
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from gptlab.data.preparation.estimate import Estimate
from gptlab.data.preparation.options import Options
from gptlab.data.preparation.part import Progress as Done
from gptlab.data.preparation.run import prepare
from gptlab.data.preparation.source import Source
from gptlab.data.prepared import Manifest, PreparedSet, Split
from gptlab.show._print import print_table, rounded
from gptlab.train.display import PLAIN_SECONDS, duration

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Display:
    """A line that is redrawn in a terminal, or lines printed now and then."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(file=sys.stderr, soft_wrap=True)
        self.bar = Progress(
            BarColumn(24),
            TextColumn("{task.description}"),
            console=self.console,
            transient=True,
            refresh_per_second=4,
        )
        self.task = self.bar.add_task("", total=None)
        self.documents = self.tokens = self.bytes = self.before = self.total = 0
        self.start = self.last_plain = time.monotonic()

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    def estimated(self, source: Source, wanted: Estimate | None, workers: int) -> None:
        """Print what a sample promises."""
        if source.left_out:
            self.say(f"{source.left_out:,} files of {source.given} are not text: left out")
        if wanted is None:
            self.say(f"{source.given}: its size is not known before it is read")
            return
        self.say(
            f"about {wanted.documents:,} documents · {rounded(wanted.text_bytes)}B of text · "
            f"{rounded(wanted.tokens)}tokens · {rounded(wanted.disk)}B of disk while it runs · "
            f"{duration(wanted.seconds)} with {workers} at work"
        )

    def began(self, total_bytes: int, done_bytes: int) -> None:
        """Start the bar; `done_bytes` of the text were done before."""
        if done_bytes:
            self.say(f"going on: {rounded(done_bytes)}B of text are done already")
        self.total, self.bytes = max(total_bytes, done_bytes), done_bytes
        self.before, self.start = done_bytes, time.monotonic()
        self.bar.update(self.task, total=self.total or None, completed=done_bytes)
        if self.console.is_interactive:
            self.bar.start()

    def stop(self) -> None:
        """Take the bar away, if there is one."""
        if self.console.is_interactive:
            self.bar.stop()

    def progress(self, done: Done) -> None:
        """Count what was done."""
        self.documents += done.documents
        self.tokens += done.tokens
        self.bytes += done.bytes
        self.bar.update(self.task, completed=self.bytes, description=self._line())
        if not self.console.is_interactive and time.monotonic() - self.last_plain > PLAIN_SECONDS:
            self.last_plain = time.monotonic()
            share = f"{min(99, 100 * self.bytes // self.total)}% · " if self.total else ""
            self.say(share + self._line())

    def _line(self) -> str:
        seconds = max(1e-9, time.monotonic() - self.start)
        speed = (self.bytes - self.before) / seconds
        line = (
            f"{self.documents:,} documents · {rounded(self.tokens)}tokens · {speed / 1e6:.1f} MB/s"
        )
        if self.total and speed:
            line += f" · {duration((self.total - self.bytes) / speed)} left"
        return line


def show_preparation(options: Options) -> None:
    """Prepare a source, and print what came of it."""
    display = Display()
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        prepared = prepare(options, display)
    except (KeyboardInterrupt, SystemExit):
        display.stop()
        display.say("stopped: what is done is kept; the same command goes on from there")
        raise
    finally:
        display.stop()
        signal.signal(signal.SIGTERM, before)
    show_manifest(prepared.path, prepared.manifest)
    print(f"train on it with: gptlab train data.path={prepared.path}")


def show_prepared(path: str, samples: int) -> None:
    """Print the manifest of a prepared set and how some of its documents begin."""
    prepared = PreparedSet.open(path)
    show_manifest(prepared.path, prepared.manifest)
    for split in ("train", "val"):
        for number in range(min(samples, prepared.manifest.of(split).documents)):
            print(f"--- {split} document {number}\n{beginning(prepared, split, number)}\n")


def beginning(prepared: PreparedSet, split: Split, number: int, n_tokens: int = 100) -> str:
    """Decode the first tokens of a document."""
    starts = prepared.documents(split)["start"]
    tokens = prepared.tokens(split)
    start = int(starts[number])
    end = int(starts[number + 1]) if number + 1 < len(starts) else len(tokens)
    text = prepared.encoder.decode(tokens[start : min(end, start + n_tokens)].tolist())
    text = CONTROL.sub(lambda found: repr(found[0])[1:-1], text)  # they would steer a terminal
    return text + ("..." if end > start + n_tokens else "")


def show_verified(path: str) -> None:
    """Compare every hash of a prepared set."""
    prepared = PreparedSet.open(path)
    prepared.verify()
    n_files = len(prepared.manifest.sizes())
    print(f"{path}: {n_files} files, all as they were written")


def show_manifest(path: object, manifest: Manifest) -> None:
    rows = [
        [
            split,
            f"{contents.documents:,}",
            f"{contents.tokens:,}",
            f"{contents.text_bytes:,}",
            f"{contents.text_bytes / max(1, contents.tokens):.3f}",
            str(len(contents.shards)),
        ]
        for split, contents in (("train", manifest.train), ("val", manifest.val))
    ]
    columns = ["split", "documents", "tokens", "bytes of text", "bytes/token", "shards"]
    print_table(f"{path}: {manifest.source}, {manifest.dtype}", columns, rows)
    left_out = ", ".join(f"{n:,} {reason}" for reason, n in manifest.left_out.items() if n)
    print(f"{manifest.documents_read:,} documents read; left out: {left_out or 'none'}")
    if manifest.not_text:
        print(f"{manifest.not_text:,} were not UTF-8 text (--errors {manifest.errors})")
    print(f"validation: {manifest.split_rule}")


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
