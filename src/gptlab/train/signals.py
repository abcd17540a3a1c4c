"""Ctrl-C and SIGTERM: the first finishes the step and saves, the second quits at once."""

import os
import signal
import threading
from types import FrameType
from typing import Self

SHOW_CURSOR = b"\x1b[?25h\n"  # a live line hides it


class Signals:
    """While this context is open, `received` holds the signal that asked the run to stop.

    Outside of the main thread signals cannot be heard, and are left to whoever started it.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def __enter__(self) -> Self:
        is_main = threading.current_thread() is threading.main_thread()
        wanted = (signal.SIGINT, signal.SIGTERM) if is_main else ()
        self._before = {number: signal.signal(number, self._receive) for number in wanted}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            if os.isatty(2):
                os.write(2, SHOW_CURSOR)
            os._exit(128 + number)
        self.received = signal.Signals(number)
