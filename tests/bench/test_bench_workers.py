"""Workers: real processes, whose contestants are made up or small."""

import io
import json
import re
import sys
from pathlib import Path
from subprocess import Popen

import pytest
import torch

from gptlab.bench.arms import Apart, Arm, Worker, Workers, find_contestant, peers, raced
from gptlab.bench.worker import Beat, Over, Race, work


class Pipe:
    """Both ends of a worker's talk, without a process; seconds are made up."""

    def __init__(self, *commands: dict):
        lines = [json.dumps(command) for command in commands]
        self.commands = io.StringIO("\n".join(lines) + "\n")
        self.replies: list[dict] = []
        self.now = 100.0

    def beat(self) -> Beat:
        return Beat(self.commands, self.replies.append, lambda: self.now)


def test_a_section_ends_after_its_seconds_and_at_least_so_many_calls():
    pipe = Pipe({"seconds": 2.0, "least": 1}, {"seconds": 0.0, "least": 3})
    beat = pipe.beat()

    def contestant() -> None:
        beat.ready(64, parameters=7)
        while True:
            pipe.now += 0.75
            beat(lambda: 1 / pipe.now)

    with pytest.raises(Over):
        contestant()
    ready, first, second = pipe.replies
    assert ready == {"ready": {"amount": 64, "parameters": 7}}
    assert (first["calls"], first["seconds"]) == (3, 2.25)
    assert (second["calls"], second["seconds"]) == (3, 2.25)
    assert list(second["losses"]) == [1, 2, 5]
    assert second["losses"][5] == pytest.approx(1 / 103.75)


@pytest.mark.parametrize("is_on_gpu", [True, False])
def test_the_peak_is_that_of_the_device_and_of_the_work_alone(
    is_on_gpu: bool, monkeypatch: pytest.MonkeyPatch
):
    """While it was prepared, more was held; the process itself takes more than a small model."""
    held = {"GPU": 900_000_000, "process": 5_000_000}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: is_on_gpu)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: held["GPU"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: held.update(GPU=3_000_000))
    monkeypatch.setattr("gptlab.bench.worker.memory", lambda: (1_000_000, held["process"]))
    pipe = Pipe({"seconds": 0.0, "least": 1})
    beat = pipe.beat()
    beat.ready(64)
    with pytest.raises(Over):
        beat()
    assert pipe.replies[-1]["peak"] == (3_000_000 if is_on_gpu else 4_000_000)


def test_a_race_counts_from_the_process_on_and_not_while_it_is_scored(monkeypatch):
    pipe, losses = Pipe(), iter([3.0, 2.0, 1.5])
    monkeypatch.setattr("time.time", lambda: 1010.0)
    clock = lambda: pipe.now  # noqa: E731
    race = Race(pipe.commands, pipe.replies.append, clock, started=1000.0, every=2)

    def score() -> float:
        pipe.now += 50.0
        return next(losses)

    race.ready(1, score=score)
    for _ in range(5):
        pipe.now += 1.0
        race()
    pipe.now += 0.5
    race.finish()
    assert pipe.replies[-1] == {
        "curve": [(2, 12.0, 3.0), (4, 14.0, 2.0), (5, 15.5, 1.5)],
        "whole": 15.5,
    }


def test_what_is_wrong_with_a_contestant_is_one_line():
    replies: list[dict] = []
    work({"contestant": "nobody", "work": "train"}, io.StringIO(), replies.append)
    work({"contestant": "tokenizers", "work": "train"}, io.StringIO(), replies.append)
    work({"contestant": "reference", "work": "train"}, io.StringIO(), replies.append)
    assert replies == [
        {"missing": "gptlab.bench.contestants.nobody"},
        {"absent": "train"},
        {"failed": "KeyError: 'seed'"},
    ]


def test_a_process_works_when_asked_and_ends_with_the_context():
    with Workers([Arm("calibrator", "_calibrator", {})], "calibrate", threads=1) as (worker,):
        section = worker.section(0.0, 2)
        assert section.amount == 2
        assert section.seconds > 0
        assert worker.facts["threads"] == 1
        assert set(worker.losses) == set(worker.facts["kinds"])
    assert worker.process.returncode == 0


def test_arms_that_work_apart_never_hold_memory_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A process a turn, each in a folder of its own, gone before the next; the peak is of all."""
    started: list[Worker] = []

    class Watched(Worker):
        def __init__(self, *given):
            assert all(each.process.returncode == 0 for each in started)
            super().__init__(*given)
            started.append(self)

        def section(self, seconds: float, least: int = 1):
            section = super().section(seconds, least)
            self.peak = [7, 9, 8][len(started) - 1]
            return section

    monkeypatch.setattr("gptlab.bench.arms.Worker", Watched)
    arm = Arm("calibrator", "_calibrator", {"folder": str(tmp_path)})
    apart = Apart(arm, "calibrate", threads=1)
    apart.warm_up(100.0)
    sections = [apart.section(0.0, 2) for _ in range(3)]
    assert [section.amount for section in sections] == [2, 2, 2]
    assert [each.process.returncode for each in started] == [0, 0, 0]
    assert len(list(tmp_path.iterdir())) == len({each.process.pid for each in started}) == 3
    assert apart.peak == 9
    assert apart.facts["threads"] == 1


def test_a_process_that_dies_says_its_last_words(tmp_path: Path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'first' >&2\necho 'no more room' >&2\nexit 3\n")
    program.chmod(0o755)
    worker = Worker(Arm("poor", "reference", {}, str(program)), "train", None)
    with pytest.raises(ValueError, match=r"^poor died: no more room$"):
        worker.open()
    worker.close()


@pytest.fixture
def busy(tmp_path: Path) -> Arm:
    """What is ready at once and then reads nothing for minutes."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nread job\necho '{\"ready\": {}}'\nexec sleep 600 <&-\n")
    program.chmod(0o755)
    return Arm("busy", "reference", {}, str(program))


def test_a_second_ctrl_c_leaves_no_process_behind(busy: Arm, monkeypatch: pytest.MonkeyPatch):
    waiting, wait = Workers([busy, busy], "train", None), Popen.wait

    def impatient(process: Popen, timeout: float | None = None) -> int:
        if timeout is not None:
            raise KeyboardInterrupt
        return wait(process)

    monkeypatch.setattr(Popen, "wait", impatient)
    with pytest.raises(KeyboardInterrupt), waiting:
        pass
    assert [each.process.returncode for each in waiting.open] == [-9, -9]


def test_a_race_that_is_stopped_ends_at_once(busy: Arm, monkeypatch: pytest.MonkeyPatch):
    done: list[str] = []
    kill, wait = Popen.kill, Popen.wait
    monkeypatch.setattr(Popen, "kill", lambda self: done.append("kill") or kill(self))
    monkeypatch.setattr(Popen, "wait", lambda *given: done.append("wait") or wait(*given))

    def ctrl_c(worker: Worker) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Worker, "race", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        raced(busy, None, 25)
    assert done[:2] == ["kill", "wait"]


@pytest.mark.parametrize("is_ours", [True, False])
def test_what_is_not_installed_is_named_with_the_remedy(
    is_ours: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\nread job\necho \'{"missing": "nobody_has.this"}\'\n')
    program.chmod(0o755)
    message = f"x needs nobody_has, which {program} does not have"
    if is_ours:
        monkeypatch.setattr(sys, "executable", str(program))
        message = (
            "--against x needs nobody_has, which is not installed: pip install 'gptlab[bench]'"
        )
    worker = Worker(Arm("x", "reference", {}, str(program)), "train", None)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        worker.open()
    worker.close()


def test_peers_are_the_files_that_there_are():
    assert {"reference", "transformers-bf16", "x-transformers", "nanogpt"} <= set(peers())
    assert "gptlab" not in peers()
    assert find_contestant("transformers-bf16") == "transformers_bf16"
    with pytest.raises(ValueError, match=r"--against transformer: nobody .* did you mean"):
        find_contestant("transformer")
