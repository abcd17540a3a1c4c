"""What a run's folder keeps, and what it answers to names, damage and refusals."""

import json
import math
import os
import random
import re
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from disk import (
    KILLED,
    PowerCut,
    changes_of,
    die,
    die_halfway,
    fault_at,
    full_halfway,
    in_fork,
    watched,
)

from gptlab import files
from gptlab.runs.folder import RunFolder, check_free, free_name

CONFIG = "name: first\nseed: 3\n"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "runs", "first", CONFIG)


def test_a_new_folder_holds_its_config(run: RunFolder, tmp_path: Path):
    assert run.path == tmp_path / "runs" / "first"
    assert run.name == "first"
    assert run.config_tree() == {"name": "first", "seed": 3}
    assert [file.name for file in run.path.iterdir()] == ["config.yaml"]
    assert RunFolder.open(str(run.path)) == run
    run.write_config("seed: 4\n")
    assert run.config_tree() == {"seed": 4}


def test_an_existing_folder_is_refused_with_both_ways_out(run: RunFolder):
    with pytest.raises(ValueError, match="exists already") as caught:
        RunFolder.create(run.path.parent, "first", "seed: 5\n")
    assert f"gptlab resume {run.path}" in str(caught.value)
    assert "name=" in str(caught.value)
    assert run.config_tree()["seed"] == 3


@pytest.mark.parametrize("what", ["empty folder", "file", "dangling link"])
def test_whatever_has_the_name_is_left_alone(tmp_path: Path, what: str):
    taken = tmp_path / "taken"
    if what == "empty folder":
        taken.mkdir()
    elif what == "file":
        taken.write_text("mine")
    else:
        try:
            taken.symlink_to(tmp_path / "nowhere")
        except OSError:
            pytest.skip("this system lets only administrators make links")
    with pytest.raises(ValueError, match="exists already"):
        RunFolder.create(tmp_path, "taken", CONFIG)
    with pytest.raises(ValueError, match="exists already"):
        check_free(tmp_path, "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_of_eight_that_want_a_name_one_gets_it(tmp_path: Path):
    def create(number: int) -> int | str:
        try:
            return RunFolder.create(tmp_path, "wanted", f"seed: {number}\n").config_tree()["seed"]
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(create, range(8)))
    winners = [answer for answer in answers if isinstance(answer, int)]
    assert len(winners) == 1
    assert RunFolder.open(tmp_path / "wanted").config_tree() == {"seed": winners[0]}
    assert all("exists already" in str(answer) for answer in answers if answer != winners[0])
    assert [path.name for path in tmp_path.iterdir()] == ["wanted"]


def test_free_name_counts_up(tmp_path: Path):
    assert free_name(tmp_path / "missing", "a") == "a"
    for expected in ("a", "a-2", "a-3"):
        assert free_name(tmp_path, "a") == expected
        RunFolder.create(tmp_path, expected, CONFIG)
    long = "x" * 64
    RunFolder.create(tmp_path, long, CONFIG)
    assert free_name(tmp_path, long) == "x" * 62 + "-2"


HARMFUL = [
    "",
    ".",
    "..",
    "../outside",
    "a/../../outside",
    "/tmp/outside",
    "a/b",
    "a\\b",
    "..\\outside",
    "C:\\outside",
    "C:outside",
    "\\\\server\\share",
    "%2e%2e",
    "a\0b",
    "a\n",
    " a",
    "naïve",
    "a:stream",
    "trailing.",
    "x" * 65,
    "CON",
    "con.txt",
    "aux",
    "nul.tar.gz",
    "LPT1",
    "COM9.log",
    "~",
    "$HOME",
    "*",
]


@pytest.mark.parametrize("name", HARMFUL)
def test_harmful_names_are_refused(tmp_path: Path, name: str):
    root = tmp_path / "deep" / "runs"
    root.mkdir(parents=True)
    makers = (check_free, free_name, lambda root, name: RunFolder.create(root, name, CONFIG))
    for make in makers:
        with pytest.raises(ValueError, match=r"^name=") as caught:
            make(root, name)
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "runs"]


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "...x", "console", "x" * 64, "-", "com10", "2"])
def test_plain_names_are_fine(tmp_path: Path, name: str):
    RunFolder.create(tmp_path, name, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_another_folder_is_no_run(tmp_path: Path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match=re.escape(f"{path} is not a run's folder")):
            RunFolder.open(path)


@pytest.mark.parametrize("text", ["", "just words", "- 1\n- 2\n", "a: [", "a: &b 1\nc: *b\n", "\0"])
def test_a_config_that_is_none_is_named(run: RunFolder, text: str):
    (run.path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(str(run.path / "config.yaml"))):
        run.config_tree()


def test_environment_and_status_come_back(run: RunFolder):
    assert run.environment() == {}
    run.write_environment({"cpu": "two cores", "versions": {"torch": "2"}, "é": None})
    assert run.environment() == {"cpu": "two cores", "versions": {"torch": "2"}, "é": None}
    assert run.status() == {"state": "running", "step": 0, "reason": ""}
    run.write_status("stopped", 12, "SIGINT")
    assert run.status() == {"state": "stopped", "step": 12, "reason": "SIGINT"}


def test_damaged_files_are_named(run: RunFolder):
    """200 flipped bits: an answer, or a ValueError that names the file; nothing else."""
    run.write_environment({"versions": {"torch": "2"}})
    run.write_status("done", 12, "done")
    choose = random.Random(0)
    refused = 0
    for trial in range(200):
        name = ("environment.json", "status.json")[trial % 2]
        file = run.path / name
        data = bytearray(file.read_bytes())
        whole = bytes(data)
        data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)
        file.write_bytes(data)
        try:
            run.environment()
            run.status()
        except ValueError as error:
            assert str(file) in str(error)  # noqa: PT017
            refused += 1
        file.write_bytes(whole)
    assert refused > 80


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"[" * 100_000, b" " * 2_000_000, b"\xff"])
def test_a_status_that_is_none_is_named(run: RunFolder, data: bytes):
    (run.path / "status.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"status\.json is damaged"):
        run.state()


def test_metrics_come_back(run: RunFolder):
    assert run.metrics() == ([], 0)
    run.append_metrics({"step": 1, "train_loss": 0.1 + 0.2, "val_loss": None})
    run.append_metrics({"step": 2, "train_loss": math.nan, "val_loss": -math.inf})
    run.append_metrics({"step": 3, "train_loss": np.float64("inf"), "lr": np.float64(0.5)})
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail)["step"] for line in lines] == [1, 2, 3]
    assert run.metrics() == (
        [
            {"step": 1, "train_loss": 0.1 + 0.2, "val_loss": None},
            {"step": 2, "train_loss": None, "val_loss": None},
            {"step": 3, "train_loss": None, "lr": 0.5},
        ],
        0,
    )


def test_a_line_cut_short_is_not_joined_to_the_next(run: RunFolder):
    for step in (1, 2):
        run.append_metrics({"step": step})
    file = run.path / "metrics.jsonl"
    file.write_bytes(file.read_bytes()[:-4])
    run.append_metrics({"step": 3})
    assert run.metrics() == ([{"step": 1}, {"step": 3}], 1)


def test_a_line_without_its_end_is_still_a_line(run: RunFolder):
    run.append_metrics({"step": 1})
    file = run.path / "metrics.jsonl"
    file.write_bytes(file.read_bytes()[:-1])
    assert run.metrics() == ([{"step": 1}], 0)
    run.append_metrics({"step": 2})
    assert run.metrics() == ([{"step": 1}, {"step": 2}], 0)


BAD_LINES = [
    b"",
    b"{",
    b"\0\0\0",
    b"\xff\xfe",
    b"[1]",
    b'{"loss": 1}',
    b'{"step": "2"}',
    b"[" * 9999,
]


def test_bad_lines_are_skipped_and_counted(run: RunFolder):
    good = [b'{"step": %d}' % step for step in range(9)]
    mixed = [line for pair in zip(good, BAD_LINES, strict=False) for line in pair] + good[8:]
    (run.path / "metrics.jsonl").write_bytes(b"\n".join(mixed) + b"\n")
    assert run.metrics() == ([{"step": step} for step in range(9)], len(BAD_LINES) - 1)
    assert run.truncate_metrics(5) == len(BAD_LINES) - 1  # an empty line is no line
    assert (run.path / "metrics.jsonl").read_bytes() == b"\n".join(good[:6]) + b"\n"
    assert run.truncate_metrics(5) == 0
    assert run.truncate_metrics(-1) == 0
    assert run.metrics() == ([], 0)


def test_metrics_that_are_not_there_need_no_truncation(run: RunFolder):
    assert run.truncate_metrics(3) == 0
    assert not (run.path / "metrics.jsonl").exists()


def test_200_flipped_bits_cost_only_the_lines_they_are_in(run: RunFolder):
    for step in range(20):
        run.append_metrics({"step": step, "train_loss": 1 / (step + 1)})
    file = run.path / "metrics.jsonl"
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    choose = random.Random(0)
    for _ in range(200):
        data = bytearray(whole)
        byte = choose.randrange(len(data))
        data[byte] ^= 1 << choose.randrange(8)
        file.write_bytes(data)
        hit = whole[:byte].count(b"\n")
        touched = {hit, hit + 1} if whole[byte] == ord("\n") else {hit}
        safe = [json.loads(line) for i, line in enumerate(lines) if i not in touched]
        found, n_bad = run.metrics()
        assert [line for line in found if line in safe] == safe
        assert n_bad + len(found) in (19, 20, 21)
        assert run.truncate_metrics(10**9) == n_bad
        assert run.metrics() == (found, 0)


def test_samples_are_appended(run: RunFolder):
    run.append_sample("--- step 1\nTo bé\n\n")
    run.append_sample("--- step 2\n")
    assert (run.path / "samples.txt").read_bytes().decode() == "--- step 1\nTo bé\n\n--- step 2\n"


def test_a_folder_can_be_moved(run: RunFolder, tmp_path: Path):
    run.write_environment({"cpu": "x"})
    run.write_status("done", 2)
    run.append_metrics({"step": 1})
    run.append_sample("text\n")
    for folder in (run.checkpoints, run.tokenizer):
        folder.mkdir()
    with run.lock():
        pass
    for file in run.path.rglob("*"):
        assert file.is_dir() or str(tmp_path) not in file.read_text()
    moved = RunFolder.open(shutil.move(run.path, tmp_path / "a new place"))
    assert moved.config_tree()["seed"] == 3
    assert moved.environment() == {"cpu": "x"}
    assert moved.state() == "done"
    assert moved.metrics() == ([{"step": 1}], 0)
    assert moved.checkpoints.parent == moved.tokenizer.parent == tmp_path / "a new place"
    assert moved.tokenizer.is_dir()


def writes(run: RunFolder) -> dict[str, Callable[[], None]]:
    """Name everything a run writes into its folder, with the call that writes it."""
    return {
        "config.yaml": lambda: run.write_config("seed: 9\n"),
        "environment.json": lambda: run.write_environment({"a": 9}),
        "status.json": lambda: run.write_status("done", 9),
        "metrics.jsonl": lambda: run.append_metrics({"step": 9}),
        "samples.txt": lambda: run.append_sample("nine\n"),
    }


WRITES = ["config.yaml", "environment.json", "status.json", "metrics.jsonl", "samples.txt"]


@pytest.mark.parametrize("name", WRITES)
def test_a_deleted_folder_is_named_and_not_made_anew(run: RunFolder, name: str):
    shutil.rmtree(run.path)
    with pytest.raises(files.WriteError, match=re.escape(f"{run.path / name} could not be writ")):
        writes(run)[name]()
    with pytest.raises(ValueError, match=re.escape(str(run.path))), run.lock():
        pass
    assert not run.path.exists()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="an administrator may write anywhere"
)
def test_a_read_only_folder_is_named_and_can_be_read(run: RunFolder):
    run.append_metrics({"step": 1})
    run.append_sample("one\n")
    with run.lock():
        pass
    for file in run.path.iterdir():
        file.chmod(0o400)
    run.path.chmod(0o500)
    try:
        for name, write in writes(run).items():
            with pytest.raises(files.WriteError, match=f"{name} could not be written: Permission"):
                write()
        with pytest.raises(files.WriteError, match="Permission"), run.lock():
            pass
        with pytest.raises(files.WriteError, match="second could not be made: Permission"):
            RunFolder.create(run.path, "second", CONFIG)
        assert run.metrics() == ([{"step": 1}], 0)
        assert run.state() == "interrupted"
    finally:
        run.path.chmod(0o700)


@pytest.mark.parametrize("name", WRITES)
def test_a_full_disk_leaves_what_was_there(run: RunFolder, name: str):
    for write in writes(run).values():
        write()
    before = (run.path / name).read_bytes()
    n_changes = len(changes_of(writes(run)[name]))
    (run.path / name).write_bytes(before)
    for turn in range(n_changes):
        with (
            pytest.raises(files.WriteError, match=re.escape(f"{run.path / name} could not be wr")),
            fault_at(turn, full_halfway),
        ):
            writes(run)[name]()
        assert sorted(file.name for file in run.path.iterdir()) == sorted(WRITES)
    if name == "metrics.jsonl":
        run.append_metrics({"step": 10})
        assert run.metrics()[0][-1] == {"step": 10}
    else:
        assert (run.path / name).read_bytes().startswith(before[: len(before) // 2])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("manner", ["kill", "kill halfway", "power cut", "power cut with names"])
def test_dying_at_any_change_leaves_old_or_new(tmp_path: Path, manner: str):
    def work(root: Path) -> None:
        run = RunFolder.create(root, "second", "seed: 1\n")
        run.write_status("running", 1)
        run.write_status("done", 2)
        run.truncate_metrics(0)
        run.write_config("seed: 2\n")

    def until(turn: int, root: Path) -> None:
        if manner.startswith("power"):
            with watched(PowerCut(turn, names_too=manner.endswith("names"))):
                work(root)
        with fault_at(turn, die if manner == "kill" else die_halfway):
            work(root)

    n_changes = len(changes_of(lambda: work(tmp_path / "counted")))
    for turn in range(n_changes):
        root = tmp_path / str(turn)
        assert in_fork(lambda at=turn, root=root: until(at, root)) == KILLED
        path = root / "second"
        if not path.exists():
            check_free(root, "second")
            continue
        run = RunFolder.open(path)
        assert run.config_tree()["seed"] in (1, 2)
        assert (run.status()["state"], run.status()["step"]) in [
            ("running", 0),
            ("running", 1),
            ("done", 2),
        ]


@pytest.mark.skipif(sys.platform == "win32", reason="such names need no test there")
@pytest.mark.parametrize("place", ["with space", "ünïcödé 文", "a" * 200 + "/" + "b" * 200])
def test_a_folder_may_be_anywhere(tmp_path: Path, place: str):
    run = RunFolder.create(tmp_path / place, "first", CONFIG)
    run.append_metrics({"step": 1})
    with run.lock():
        assert run.state() == "running"
    assert RunFolder.open(tmp_path / place / "first").metrics() == ([{"step": 1}], 0)
