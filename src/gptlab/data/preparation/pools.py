"""Workers: processes that turn pieces into parts, each with a tokenizer of its own.

A worker that is killed is replaced and its piece done again; a piece that kills its worker time
after time is an error. Workers end by themselves when whoever started them is gone.
"""

import os
import signal
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from gptlab.data.preparation.part import Mark, Progress, Work, make_part
from gptlab.data.preparation.source import Piece
from gptlab.tokenizer import Encoder, open_encoder

Event = Progress | tuple[int, Mark]  # a part is whole: its piece's number, its mark
Events = Generator[Event, None, None]
Warn = Callable[[str], None]
ATTEMPTS = 3  # at a piece whose workers die


def in_this_process(work: Work, pieces: Iterator[Piece], encoder: Encoder) -> Events:
    """Do one piece after the other here."""
    for piece in pieces:
        told: list[Progress] = []
        mark = make_part(work, piece, encoder, told.append)
        yield from told
        yield piece.number, mark


def in_processes(
    work: Work, pieces: Iterator[Piece], tokenizer: Path, workers: int, warn: Warn
) -> Events:
    """Do pieces in so many processes; what is done comes in any order."""
    crew = _Crew(work, tokenizer, warn)
    try:
        for _ in range(workers):
            crew.add(pieces)
        while crew.members:
            ready = wait([member.pipe for member in crew.members])
            for member in [member for member in crew.members if member.pipe in ready]:
                event = crew.hear(member, pieces)
                if event is not None:
                    yield event
    finally:
        crew.stop()


@dataclass(eq=False)
class _Member:
    process: BaseProcess
    pipe: Connection
    piece: Piece


class _Crew:
    def __init__(self, work: Work, tokenizer: Path, warn: Warn):
        self.work, self.tokenizer, self.warn = work, tokenizer, warn
        self.members: list[_Member] = []
        self.deaths: dict[int, int] = {}

    def add(self, pieces: Iterator[Piece], piece: Piece | None = None) -> None:
        """Start a worker, if there is something for it to do."""
        piece = piece or next(pieces, None)
        if piece is None:
            return
        context = get_context("spawn")
        pipe, theirs = context.Pipe()
        arguments = (theirs, self.work, str(self.tokenizer))
        process = context.Process(target=_serve, args=arguments, daemon=True)
        process.start()
        theirs.close()
        pipe.send(piece)
        self.members.append(_Member(process, pipe, piece))

    def hear(self, member: _Member, pieces: Iterator[Piece]) -> Event | None:
        """Take a message of a worker, and give it the next piece if it is done with one."""
        try:
            message = member.pipe.recv()
        except (EOFError, OSError):
            self._bury(member, pieces)
            return None
        if isinstance(message, Exception):
            raise message
        if isinstance(message, Mark):
            done = member.piece.number
            piece = next(pieces, None)
            if piece is None:
                member.pipe.close()
                member.process.join()
                self.members.remove(member)
            else:
                member.piece = piece
                member.pipe.send(piece)
            return done, message
        return message

    def _bury(self, member: _Member, pieces: Iterator[Piece]) -> None:
        member.process.join()
        self.members.remove(member)
        number = member.piece.number
        self.deaths[number] = self.deaths.get(number, 0) + 1
        how = f"a worker died (exit code {member.process.exitcode}) at piece {number}"
        if self.deaths[number] == ATTEMPTS:
            raise ValueError(f"{how}, for the {ATTEMPTS}rd time; fewer --workers need less memory")
        self.warn(f"{how}; its piece is done again")
        self.add(pieces, member.piece)

    def stop(self) -> None:
        for member in self.members:
            member.process.kill()
            member.pipe.close()
        for member in self.members:
            member.process.join()


def _serve(pipe: Connection, work: Work, tokenizer: str) -> None:
    """What a worker does: pieces, until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started it
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core each
    encoder = open_encoder(tokenizer)
    try:
        while True:
            piece = pipe.recv()
            pipe.send(_attempt(work, piece, encoder, pipe.send))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)


def _attempt(work: Work, piece: Piece, encoder: Encoder, tell: Callable[[Any], None]) -> Any:
    try:
        return make_part(work, piece, encoder, tell)
    except BrokenPipeError:
        raise
    except Exception as error:  # a user's mistake, a full disk, or ours: raised over there
        return error
