"""Files that a study leaves, damaged: one line that names the file, and what to do about it."""

from pathlib import Path

import pytest
from studies import Conduct, MakeStudy

from gptlab.compare import timing
from gptlab.compare.conduct import How
from gptlab.compare.metrics.bits_per_byte import BitsPerByte
from gptlab.compare.noise_runs import measure_noise

DAMAGE = {
    "empty": b"",
    "half": b'{"identity": "ab',
    "a list": b"[1, 2]",
    "a number": b"3",
    "wrong types": b'{"identity": [], "outcome": 7, "sha256": ["config.yaml"], "seeds": {}}',
    "too little": b'{"identity": "ab"}',
    "no text": b"\xff\xfe\x00",
    "huge": b'{"identity": "' + b"a" * 2_000_000 + b'"}',
    "deep": b"[" * 100_000,
}


@pytest.fixture(autouse=True)
def quick_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "step_seconds", lambda recipes: [0.01] * len(recipes))


def told(run: Conduct, asked: object, file: Path) -> str:
    with pytest.raises(ValueError, match="remove") as mistake:
        run(asked)
    text = str(mistake.value)
    assert text.startswith(str(file))
    assert "\n" not in text
    return text


def test_the_files_of_a_study(study: MakeStudy, run: Conduct, how: How):
    asked = study(seeds=(0,), match="time")
    results = run(asked)
    folder = how.folder(asked)
    sealed = (folder / results.runs[1].folder).resolve() / "sealed.json"
    for file in (sealed, folder / "pilot.json", folder / "study.yaml"):
        whole = file.read_bytes()
        for damage in DAMAGE.values():
            file.write_bytes(damage)
            told(run, asked, file)
        file.write_bytes(whole)
    assert run(asked) == results


@pytest.mark.parametrize("seconds", ["0", "-1", "1e999", "NaN", '"soon"', "null", "[1]"])
def test_a_time_that_is_none(seconds: str, study: MakeStudy, run: Conduct, how: How):
    asked = study(seeds=(0,), match="time", variants={"rope": "model.positions=rotary"})
    file = how.folder(asked) / "pilot.json"
    file.parent.mkdir(parents=True)
    file.write_text(f'{{"here": {{"abc": {seconds}}}}}')
    assert "measured anew" in told(run, asked, file)


def test_a_noise_floor(study: MakeStudy, run: Conduct, how: How):
    asked = study(seeds=(0,), variants={"rope": "model.positions=rotary"})
    _, file = measure_noise(asked.base, (0, 1), (BitsPerByte(),), how, lambda text: None)
    for damage in DAMAGE.values():
        file.write_bytes(damage)
        assert "gptlab noise" in told(run, asked, file)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("config.yaml", "d_model: 16", "d_model: wide"),
        ("config.yaml", "model:", "model: ["),
        ("environment.json", '"machine": {', '"machine": [], "was": {'),
        ("environment.json", '"data_sha256": "', '"data_sha256": "0'),
    ],
)
@pytest.mark.parametrize("is_sealed", [True, False])
def test_the_files_of_a_run_are_named_as_what_they_are(
    file: str, old: str, new: str, is_sealed: bool, study: MakeStudy, run: Conduct, how: How
):
    asked = study(seeds=(0,), variants={"rope": "model.positions=rotary"})
    results = run(asked)
    edited = (how.folder(asked) / results.runs[0].folder).resolve() / file
    text = edited.read_text()
    assert old in text
    edited.write_text(text.replace(old, new, 1))
    if not is_sealed:
        (edited.parent / "sealed.json").unlink()
    told(run, asked, edited)
