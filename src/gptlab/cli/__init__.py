"""The command `gptlab`: verbs and `path.to.setting=value`. No logic of its own.

Nothing here imports torch until a verb needs it, so that help is quick.

Exit codes: 0 done, 1 failed, 2 the user's mistake, 130 and 143 stopped by Ctrl-C or SIGTERM.
"""

import io
import sys
import warnings
from collections.abc import Sequence

from gptlab.cli import (
    bench,
    comparing,
    exchange,
    looking,
    prepared_data,
    probing,
    tokenizers,
    training,
    writing,
)
from gptlab.cli._verb import app, say

FILES = (
    training,
    comparing,
    looking,
    writing,
    prepared_data,
    exchange,
    tokenizers,
    bench,
    probing,
)  # their order in --help
app.registered_commands.sort(
    key=lambda command: [file.__name__ for file in FILES].index(command.callback.__module__)
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    warnings.showwarning = lambda message, *_: say(f"warning: {message}")
    app(args=arguments)
