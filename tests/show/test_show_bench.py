"""What is printed, drawn and kept of a measurement."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gptlab.bench.protocol import Plan
from gptlab.bench.record import Record
from gptlab.show.bench import Output, bench, report, report_files

SPEEDS = {"ours": 300.0, "control": 300.0, "other": 100.0}


@pytest.fixture
def record() -> Callable[..., Record]:
    def make(rounds: int = 7, **changes: Any) -> Record:
        wobble = [1 + 0.004 * (i % 3 - 1) for i in range(rounds)]
        tree = {
            "title": "Steps of ours",
            "about": "2 rows of 64 tokens a step",
            "unit": "tokens",
            "made": "2026-01-01 00:00",
            "plan": {"rounds": rounds},
            "machine": {
                "cpu": "a CPU",
                "gpus": [],
                "torch": {"version": "2.13"},
                "threads": 2,
                "commit": None,
                "load": 0.5,
            },
            "arms": [
                {
                    "label": label,
                    "facts": {"parameters": 1000 if label != "other" else 1100, "precision": kind},
                    "losses": {"1": 4.0, "10": 3.5},
                    "peak": 12_000_000 if label == "other" else 5_000_000,
                }
                for label, kind in (("ours", "bf16"), ("control", "bf16"), ("other", "float32"))
            ],
            "rounds": [
                {
                    "speeds": {
                        label: [speed * (w if label == "control" else 1.0)] * 2
                        for label, speed in SPEEDS.items()
                    },
                    "calibration": [{"a": 1.0}, {"a": 1.0}],
                    "steal": 0.0,
                    "dropped": None,
                    "races": {},
                }
                for w in wobble
            ],
        }
        return Record.parse(tree | changes)

    return make


def test_the_table_has_ratio_claim_and_what_differs(record, capsys):
    bench(lambda tell: record(), "gptlab bench", Output())
    lines = capsys.readouterr().out.splitlines()
    other = next(line for line in lines if line.startswith("other")).split()
    assert other[:7] == ["other", "100", "3.00", "3.00", "to", "3.00", "0.016"]
    assert ">3x" in other
    assert "3.500" in other
    control = next(line for line in lines if line.startswith("control"))
    assert ">" not in control
    text = "\n".join(lines)
    assert "12 MB (2.40x)" in text
    assert "5 MB (1.00x)" in control
    assert "(" not in next(line for line in lines if line.startswith("ours"))
    assert "other has +10.0% parameters." in text
    assert "Not all compute in the same precision (bf16 and float32)." in text
    assert "differ by up to 0.4%" in text


def test_dropped_rounds_do_not_count_and_are_told(record, capsys):
    whole = record()
    rounds = [each.model_dump() for each in whole.rounds]
    rounds[0] |= {"dropped": "the calibrator drifted by +9.0%"}
    rounds[0]["speeds"]["other"] = [1.0, 1.0]
    bench(lambda tell: whole.but(rounds=rounds), "gptlab bench", Output())
    out = capsys.readouterr().out
    assert "6 rounds of 7 count." in out
    assert "Dropped: the calibrator drifted by +9.0%." in out
    assert "Fewer rounds count than were asked for." in out
    assert " 3.00 to 3.00 " in out


def test_few_rounds_claim_nothing(record, capsys):
    bench(lambda tell: record(rounds=3), "gptlab bench", Output())
    assert ">" not in capsys.readouterr().out


def test_what_is_kept_gives_the_same_table_and_markdown_again(record, capsys, tmp_path: Path):
    kept, plot = tmp_path / "out.json", tmp_path / "out.png"
    bench(lambda tell: record(), "gptlab bench train ours", Output(kept, plot))
    before = capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert len(json.loads(kept.read_text())["rounds"]) == 7
    report_files([kept], Output())
    assert capsys.readouterr().out == before
    report_files([kept], Output(markdown=True))
    fragment = capsys.readouterr().out
    assert fragment.startswith("## Steps of ours\n\n    gptlab bench train ours\n")
    assert "| other | 100 | 3.00 | 3.00 to 3.00 | 0.016 | >3x |" in fragment


def test_a_race_is_told_in_seconds_and_may_never_end(record, capsys, tmp_path: Path):
    tree = record().model_dump()
    for each in tree["rounds"]:
        each["speeds"] = {"ours": [0.1], "control": [0.1], "other": [None]}
    for arm in tree["arms"]:
        arm["facts"] |= {"whole": 12.5, "final_loss": 1.9, "reached": 7}
    bench(lambda tell: Record.parse(tree | {"unit": "run"}), "", Output(plot=tmp_path / "a.png"))
    out = capsys.readouterr().out
    assert "seconds" in out
    assert next(line for line in out.splitlines() if line.startswith("ours")).split()[1] == "10.0"
    assert next(line for line in out.splitlines() if line.startswith("other")).split()[1] == "never"
    assert "12.5" in out


def test_ctrl_c_is_told_after_what_was_measured(record, capsys):
    with pytest.raises(KeyboardInterrupt):
        bench(lambda tell: record(interrupted=True), "gptlab bench", Output())
    assert "Steps of ours" in capsys.readouterr().out


def test_files_that_cannot_be_written_are_told_before_anything_is_measured(tmp_path: Path):
    def never(tell: object) -> Record:
        raise AssertionError

    with pytest.raises(ValueError, match="there is no folder"):
        bench(never, "", Output(json=tmp_path / "no" / "out.json"))
    with pytest.raises(ValueError, match="a picture's suffix"):
        bench(never, "", Output(plot=tmp_path / "out.doc"))
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match="is a folder: name a file in it"):
        bench(never, "", Output(plot=tmp_path / "folder.png"))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match=r"bad\.json"):
        report_files([tmp_path / "bad.json"], Output())


@pytest.mark.parametrize(("changes", "problem"), [
    ({"arms": []}, "arms: "),
    ({"rounds": []}, "rounds: "),
    ({"plan": {}}, "machine or plan has no rounds"),
    ({"machine": {"cpu": "a"}}, "machine or plan has no commit and no gpus and no load"),
    ({"title": None, "unit": None}, "title: .*; unit: "),
    ({"speeds": {"ours": [1.0]}}, "there are rounds without speeds of every arm"),
    ({"speeds": {"ours": [1.0], "control": [1.0], "other": []}}, r"rounds\.0\.speeds\.other: "),
    ({"speeds": {"ours": [1.0], "control": [1.0], "other": [-1]}}, r"speeds\.other\.0: "),
])  # fmt: skip
def test_a_file_that_holds_less_than_a_measurement_is_refused_in_one_line(
    changes: dict[str, Any], problem: str, record: Callable[..., Record], tmp_path: Path
):
    tree = record(rounds=1).model_dump(mode="json")
    if "speeds" in changes:
        tree["rounds"][0] |= changes
    else:
        tree |= changes
    file = tmp_path / "kept.json"
    file.write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=r"kept\.json: not a measurement: ") as refused:
        report_files([file], Output())
    assert re.search(problem, str(refused.value))
    assert "\n" not in str(refused.value)


def test_a_loss_that_is_no_number_is_told_and_the_speeds_are_kept(
    record: Callable[..., Record], capsys: pytest.CaptureFixture[str]
):
    whole = record()
    workers = [
        SimpleNamespace(
            arm=SimpleNamespace(label=arm.label),
            facts=arm.facts,
            losses={10: math.nan if arm.label == "other" else 3.5},
            peak=arm.peak,
        )
        for arm in whole.arms
    ]
    rounds = [each.round() for each in whole.rounds]
    given: Any = ("T", "about", "tokens", Plan(), whole.machine, workers, rounds)
    report([Record.of(*given)], Output())
    lines = capsys.readouterr().out.splitlines()
    assert "not finite" in next(line for line in lines if line.startswith("other"))
    assert "3.500" in next(line for line in lines if line.startswith("ours"))
