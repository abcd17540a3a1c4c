"""The command line, run here or in a copy of this process."""

import os
import signal
import sys
import time
import warnings
from pathlib import Path

import pytest

from gptlab import cli
from gptlab.train.recipe import Recipe


def command_line(recipe: Recipe, folder: Path) -> list[str]:
    """Write the command that trains a recipe."""
    file = folder / f"{recipe.name}.yaml"
    file.write_text(recipe.to_yaml(), encoding="utf-8")
    return ["train", str(file), f"name={recipe.name}"]


def exit_code(*words: str) -> object:
    """Run the command line here and give its exit code."""
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    return end.value.code


def fork(words: list[str], output: Path) -> int:
    """Run the command line in a copy of this process; its output goes to a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads only wait
        child = os.fork()
    if child:
        return child
    try:
        signal.alarm(60)  # a signal that is not obeyed must not hold up the tests
        target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1)
        os.dup2(target, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        cli.main(words)
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
    finally:
        os._exit(99)
    return 0


def exit_of(child: int) -> int:
    """Wait for a child; give its exit code, negative if a signal killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_for(path: Path) -> None:
    """Wait until a file or folder is there."""
    for _ in range(3000):
        if path.exists():
            return
        time.sleep(0.01)
    pytest.fail(f"no {path}")
