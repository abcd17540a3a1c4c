"""Kills, full disks and Ctrl-C: what is done stays, the same command ends with the same bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gptlab.data.preparation import part, pools, source
from gptlab.data.prepared import PreparedSet, is_prepared

Prepare = Callable[..., PreparedSet]
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")

SLOWLY = """
import sys
from pathlib import Path
from gptlab.data.preparation import part, source
source.SMALLEST = 3000
{extra}
from gptlab.cli import main
if __name__ == "__main__":
    main(sys.argv[1:])
"""


@pytest.fixture
def file(documents: list[str], tmp_path: Path) -> Path:
    path = tmp_path / "source.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents), "utf-8")
    return path


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "SMALLEST", 3000)


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def command(file: Path, tok: Path, out: Path, tmp_path: Path, *more: str, extra: str = "") -> list:
    script = tmp_path / "script.py"
    script.write_text(SLOWLY.format(extra=extra), "utf-8")
    words = [str(file), "--tokenizer", str(tok), "--out", str(out), "--val-fraction", "0.2"]
    return [sys.executable, str(script), "prepare", *words, "--shard-size", "3000", *more]


def finish(words: list, tmp_path: Path) -> None:
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@posix
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_any_moment(
    workers: int, prepare: Prepare, file: Path, tok: Path, tmp_path: Path, small_pieces: None
):
    """SIGKILL of the parent a random moment after so many parts are there, then to the end."""
    expected = contents(prepare(file, shard_size=3000).path)
    out = tmp_path / "out"
    words = command(file, tok, out, tmp_path, "--workers", str(workers))
    draw, kills = random.Random(workers), 0
    for n_parts in (0, 1, 4, 9, 15, 22, 27):
        child = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL)
        while child.poll() is None and len(list(out.glob(".work/0*.json"))) < n_parts:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.02))
        kills += child.poll() is None
        child.kill()
        child.wait()
        assert (out / ".work/plan.json").exists() or not is_prepared(out)
    assert kills >= 3
    if not is_prepared(out) or (out / ".work/plan.json").exists():
        finish(words, tmp_path)
    assert contents(out) == expected


@posix
@pytest.mark.parametrize("place", ["make_part", "rename", "replace", "sync", "remove"])
def test_killed_at_each_change_of_the_disk(
    place: str, prepare: Prepare, file: Path, tok: Path, tmp_path: Path, small_pieces: None
):
    """The process ends at the first, second, ... call of a function that changes the disk."""
    expected = contents(prepare(file, shard_size=3000).path)
    out = tmp_path / "out"
    module = "pools" if place == "make_part" else "files"
    for number in (1, 4, 20):
        extra = (
            "import os\n"
            "from gptlab import files\n"
            "from gptlab.data.preparation import pools\n"
            f"original, calls = {module}.{place}, []\n"
            "def counted(*a, **k):\n"
            "    calls.append(1)\n"
            f"    if len(calls) == {number}: os._exit(77)\n"
            "    return original(*a, **k)\n"
            f"{module}.{place} = counted\n"
        )
        words = command(file, tok, out, tmp_path, "--workers", "1", extra=extra)
        code = subprocess.run(words, cwd=tmp_path, capture_output=True).returncode
        if code == 0:
            break
        assert code == 77
    else:
        finish(command(file, tok, out, tmp_path, "--workers", "1"), tmp_path)
    assert contents(out) == expected


def die_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, deaths: int) -> None:
    """Workers kill themselves at piece 3, so many times."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\n"
        "from pathlib import Path\n"
        "from gptlab.data.preparation import pools\n"
        "original = pools.make_part\n"
        "def make_part(work, piece, encoder, tell):\n"
        f"    mark = Path({str(tmp_path)!r}, 'deaths')\n"
        "    told = []\n"
        "    if piece.number == 3:\n"
        "        n = int(mark.read_text()) if mark.exists() else 0\n"
        f"        if n < {deaths}:\n"
        "            mark.write_text(str(n + 1))\n"
        "            tell = lambda done: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return original(work, piece, encoder, tell)\n"
        "pools.make_part = make_part\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


@posix
def test_a_worker_that_is_killed_is_replaced(
    prepare: Prepare,
    file: Path,
    tmp_path: Path,
    small_pieces: None,
    monkeypatch: pytest.MonkeyPatch,
):
    expected = contents(prepare(file).path)
    die_once(monkeypatch, tmp_path, 2)
    assert contents(prepare(file, workers=2).path) == expected
    said = prepare.listener.said  # pyright: ignore[reportFunctionMemberAccess]
    assert [line for line in said if "a worker died" in line] == [
        "a worker died (exit code -9) at piece 3; its piece is done again"
    ] * 2


@posix
def test_a_piece_that_kills_its_workers_is_an_error(
    prepare: Prepare,
    file: Path,
    tmp_path: Path,
    small_pieces: None,
    monkeypatch: pytest.MonkeyPatch,
):
    expected = contents(prepare(file).path)
    with monkeypatch.context() as patch:
        die_once(patch, tmp_path, 99)
        with pytest.raises(ValueError, match=r"piece 3, .* less memory|piece 3, .*--workers"):
            prepare(file, workers=2, out=tmp_path / "out")
    assert not is_prepared(tmp_path / "out")
    assert contents(prepare(file, workers=2, out=tmp_path / "out").path) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_workers_end_with_whoever_started_them(
    file: Path, tok: Path, tmp_path: Path, small_pieces: None
):
    out = tmp_path / "out"
    child = subprocess.Popen(command(file, tok, out, tmp_path, "--workers", "2"), cwd=tmp_path)
    while not list(out.glob(".work/*.json")):
        time.sleep(0.01)
        assert child.poll() is None
    child.kill()
    child.wait()
    for _ in range(500):
        if not running(str(tmp_path / "script.py"), str(tmp_path)):
            return
        time.sleep(0.02)
    pytest.fail("workers go on")


def running(*signs: str) -> list[str]:
    """The working folders of processes that run in one of these places."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            here = os.readlink(process / "cwd")
        except OSError:
            continue
        if here in signs:
            found.append(here)
    return found


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_it_and_says_how_to_go_on(
    number: int,
    code: int,
    prepare: Prepare,
    file: Path,
    tok: Path,
    tmp_path: Path,
    small_pieces: None,
):
    expected = contents(prepare(file, shard_size=3000).path)
    out = tmp_path / "out"
    words = command(file, tok, out, tmp_path, "--workers", "2")
    child = subprocess.Popen(
        words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not list(out.glob(".work/*.json")):
        time.sleep(0.005)
        assert child.poll() is None
    os.killpg(child.pid, number)  # as a terminal does: the workers hear it too
    _, err = child.communicate(timeout=60)
    assert child.returncode == code, err
    assert "the same command goes on" in err
    assert "Traceback" not in err
    finish(words, tmp_path)
    assert contents(out) == expected


@posix
@pytest.mark.parametrize("limit", [1500, 2500, 5500])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk(
    limit: int,
    workers: int,
    prepare: Prepare,
    file: Path,
    tok: Path,
    tmp_path: Path,
    small_pieces: None,
):
    """With files limited in size: at a part, at the table of documents, or at a shard."""
    expected = contents(prepare(file, shard_size=3000).path)
    out = tmp_path / "out"
    extra = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    tail = ("--workers", str(workers))
    limited = command(file, tok, out, tmp_path, *tail, extra=extra)
    done = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert f"error: {out}" in done.stderr
    assert "could not be written" in done.stderr
    assert not is_prepared(out)
    finish(command(file, tok, out, tmp_path, *tail), tmp_path)
    assert contents(out) == expected


def test_a_part_that_was_damaged_is_made_again(
    prepare: Prepare,
    file: Path,
    tmp_path: Path,
    small_pieces: None,
    monkeypatch: pytest.MonkeyPatch,
):
    expected = contents(prepare(file).path)
    out = tmp_path / "out"
    interrupted(prepare, file, out, monkeypatch)
    tokens = out / ".work" / "00000002.tokens"
    content = bytearray(tokens.read_bytes())
    content[5] ^= 1
    tokens.write_bytes(content)
    shorter = out / ".work" / "00000004.fragments"
    shorter.write_bytes(shorter.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"00000002\.tokens was damaged; the same command"):
        prepare(file, out=out)
    assert contents(prepare(file, out=out).path) == expected


def test_nothing_is_done_twice(
    prepare: Prepare,
    file: Path,
    tmp_path: Path,
    small_pieces: None,
    monkeypatch: pytest.MonkeyPatch,
):
    out, made = tmp_path / "out", list[int]()
    make_part = pools.make_part

    def count(work: part.Work, piece: source.Piece, *more: object) -> part.Mark:
        if len(made) == 5 and "stopped" not in made:
            made.append("stopped")  # pyright: ignore
            raise KeyboardInterrupt
        made.append(piece.number)
        return make_part(work, piece, *more)  # pyright: ignore

    monkeypatch.setattr(pools, "make_part", count)
    with pytest.raises(KeyboardInterrupt):
        prepare(file, out=out)
    prepare(file, out=out)
    numbers = [n for n in made if n != "stopped"]
    assert numbers == list(range(len(numbers)))
    assert prepare.listener.done_bytes > 0  # pyright: ignore[reportFunctionMemberAccess]


def interrupted(
    prepare: Prepare, file: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **options: object
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gptlab.data.preparation.finishing.assemble", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(file, out=out, **options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"errors": "skip"}, "--errors"),
        ({"column": "text", "limit_documents": 5}, "--limit-docs"),
        ({"tokenizer": "byte"}, "--tokenizer"),
        ({"separator": "\n\n"}, "--separator"),
    ],
)
def test_another_preparations_work_is_refused(
    options: dict,
    named: str,
    prepare: Prepare,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    out = tmp_path / "out"
    interrupted(prepare, file, out, monkeypatch)
    before = contents(out)
    with pytest.raises(ValueError, match=f"beginning of another preparation: {named} was"):
        prepare(file, out=out, **options)
    assert contents(out) == before


def test_another_split_of_the_same_work_is_not(
    prepare: Prepare, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What is decided at the end may be decided anew: the tokens are the same."""
    out = tmp_path / "out"
    interrupted(prepare, file, out, monkeypatch)
    again = prepare(file, out=out, val_documents=3, shard_size=500, dedup=True)
    assert contents(again.path) == contents(
        prepare(file, val_documents=3, shard_size=500, dedup=True).path
    )


def test_a_source_that_changed_is_refused(
    prepare: Prepare, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    interrupted(prepare, file, out, monkeypatch)
    file.write_text(file.read_text("utf-8").replace("naïve", "naive"), "utf-8")
    with pytest.raises(ValueError, match="the state of the source's files was"):
        prepare(file, out=out)


def test_a_folder_that_is_not_empty_is_refused(prepare: Prepare, file: Path, tmp_path: Path):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"--out=.*mine is not empty"):
        prepare(file, out=out)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    with pytest.raises(ValueError, match=r"thesis\.txt is not a folder"):
        prepare(file, out=out / "thesis.txt")


def test_a_work_folder_of_somebody_elses_is_refused(prepare: Prepare, file: Path, tmp_path: Path):
    out = tmp_path / "mine"
    (out / ".work").mkdir(parents=True)
    (out / ".work" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"--out=.*mine is not empty"):
        prepare(file, out=out)
    assert (out / ".work" / "thesis.txt").read_text() == "years of work"
    (out / ".work" / "thesis.txt").rename(out / ".work" / "plan.json")
    with pytest.raises(ValueError, match="beginning of another preparation"):
        prepare(file, out=out)


def test_what_a_kill_leaves_before_the_plan_is_ones_own(
    prepare: Prepare, file: Path, tmp_path: Path
):
    out = tmp_path / "mine"
    (out / ".work").mkdir(parents=True)
    for name in ("lock", ".tmp-plan.json-12345678"):
        (out / ".work" / name).touch()
    assert contents(prepare(file, out=out).path) == contents(prepare(file).path)


@posix
def test_a_work_folder_that_is_a_link_is_refused(prepare: Prepare, file: Path, tmp_path: Path):
    out, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / ".work").symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(ValueError, match=r"\.work is a symbolic link"):
        prepare(file, out=out)
    assert list(elsewhere.iterdir()) == []


def test_a_finished_set_stays_as_it_is(prepare: Prepare, file: Path, tmp_path: Path):
    out = prepare(file).path
    before = contents(out)
    with pytest.raises(ValueError, match="holds a prepared set already"):
        prepare(file, out=out)
    assert contents(out) == before


def test_two_at_once_are_refused(
    prepare: Prepare, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    interrupted(prepare, file, out, monkeypatch)
    from filelock import FileLock

    with FileLock(out / ".work" / "lock"), pytest.raises(ValueError, match="in use by another"):
        prepare(file, out=out)
