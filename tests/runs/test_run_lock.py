"""One process writes into a run's folder at a time; a lock ends with its process."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gptlab.runs.folder import RunFolder

HOLD = """
import sys
from pathlib import Path
from gptlab.runs.folder import RunFolder
try:
    with RunFolder(Path(sys.argv[1])).lock():
        print("holds it", flush=True)
        sys.stdin.read()
except ValueError as error:
    print(error, flush=True)
"""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "first", "seed: 1\n")


@contextmanager
def another_process(run: RunFolder) -> Iterator[subprocess.Popen[str]]:
    """Start a process that tries to lock the folder, and holds it until its input ends."""
    command = [sys.executable, "-c", HOLD, str(run.path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_a_second_process_is_refused_until_the_first_is_done(run: RunFolder):
    run.write_status("running", 5)
    assert not run.is_locked()
    with another_process(run) as process:
        assert first_line(process) == "holds it"
        assert run.is_locked()
        assert run.state() == "running"
        with pytest.raises(ValueError, match="first is in use by another process"), run.lock():
            pass
        process.communicate("")
        assert not run.is_locked()
        with run.lock():
            pass


def test_this_process_refuses_another(run: RunFolder):
    with run.lock(), another_process(run) as process:
        assert first_line(process) == f"{run.path} is in use by another process"


def test_a_killed_process_leaves_no_lock(run: RunFolder):
    run.write_status("running", 5)
    with another_process(run) as process:
        assert first_line(process) == "holds it"
        process.kill()
        process.wait()
        assert (run.path / ".lock").exists() or sys.platform == "win32"
        assert not run.is_locked()
        assert run.state() == "interrupted"
        with run.lock():
            assert run.state() == "running"


def test_of_four_processes_one_gets_it(run: RunFolder):
    with (
        another_process(run) as a,
        another_process(run) as b,
        another_process(run) as c,
        another_process(run) as d,
    ):
        answers = [first_line(process) for process in (a, b, c, d)]
    assert answers.count("holds it") == 1
    assert answers.count(f"{run.path} is in use by another process") == 3


def test_within_one_process_it_is_held_once_and_let_go_on_errors(run: RunFolder):
    def fail_while_holding_it() -> None:
        with run.lock():
            with pytest.raises(ValueError, match="in use"), RunFolder.open(run.path).lock():
                pass
            assert run.is_locked()
            raise KeyError

    with pytest.raises(KeyError):
        fail_while_holding_it()
    assert not run.is_locked()
    run.write_status("done", 9)
    with run.lock():
        assert run.state() == "done"
