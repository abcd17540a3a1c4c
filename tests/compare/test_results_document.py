"""The document of a study: what is written is read again, and nothing else is."""

import pytest

from gptlab.compare.results import Budget, Metric, Results


def results():
    return Results(
        name="study",
        command="gptlab compare study.py",
        base="base",
        seeds=[0],
        metrics=[Metric(name="bpb", title="bits per byte", margin=0.01)],
        variants=[],
        budget=Budget(axis="params"),
        runs=[],
        costs=[],
        comparisons=[],
    )


def test_it_is_read_as_it_was_written(tmp_path):
    results().save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"params"', '"area"', "budget: axis: Input should be 'params'"),
        ("0.95", "NaN", "confidence: Input should be a finite number"),
        ('"format": 1', '"format": 2', "format 2, this gptlab reads 1"),
        ('"base"', '"bass"', "base: Field required"),
    ],
)
def test_what_is_wrong_in_it_is_said_in_a_line(tmp_path, old, new, problem):
    file = tmp_path / "results.json"
    results().save(file)
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=r"results\.json: ") as caught:
        Results.load(file)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_are_finite():
    with pytest.raises(ValueError, match="finite"):
        Metric(name="bpb", title="bits per byte", margin=float("inf"))
