"""What every verb shares: how it becomes one, and how it says what went wrong."""

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
SETTINGS = {"ignore_unknown_options": True}  # `--model.positions=rotary` is a setting

Target = Annotated[str, typer.Argument(help="A recipe, a run folder or a config file.")]
Settings = Annotated[
    list[str] | None, typer.Argument(help="Settings, as path.to.setting=value.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def _wanted(said: str) -> str:
    """Find in what torch says of memory what it could not have, and how much that is."""
    line = said.partition("\n")[0].rpartition("err == 0. ")[2]
    return ". ".join(line.split(". ")[:2]).rstrip(".")


def verb(
    function: Callable[..., None], group: typer.Typer = app, name: str | None = None
) -> Callable[..., None]:
    """Make a function a verb of the command line: a user's mistake is one line and exit code 2."""

    @wraps(function)
    def guarded(*args: Any, **options: Any) -> None:
        try:
            function(*args, **options)
        except KeyboardInterrupt:
            fail("stopped", 128 + signal.SIGINT)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        except (ValueError, OSError) as error:
            fail(f"error: {error}", 2)
        except (FloatingPointError, MemoryError) as error:
            fail(f"failed: {str(error) or 'not enough memory'}", 1)
        except RuntimeError as error:
            from gptlab.machine import is_out_of_memory

            if not is_out_of_memory(error):
                raise
            fail(f"failed: not enough memory: {_wanted(str(error))}", 1)

    name = name or function.__name__.rstrip("_")  # `import` is a word of Python's
    return group.command(name, context_settings=SETTINGS if group is app else None)(guarded)


def group_of_verbs(name: str, help: str) -> typer.Typer:
    """Make a word under which further verbs stand."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(group, name=name, help=help)
    return group


def fail(text: str, code: int) -> NoReturn:
    say(text)
    raise SystemExit(code) from None


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
