import pytest

from gptlab.show._print import plain, print_table, rounded


@pytest.mark.parametrize(
    ("number", "text"),
    [(7, "7 "), (999.4, "999 "), (999.6, "1 k"), (124_439_808, "124 M"), (3.5e27, "3.5e+03 Y")],
)
def test_rounding(number: float, text: str):
    assert rounded(number) == text


def test_values_are_written_as_one_types_them():
    window = {"type": "grouped_query", "window": 5, "qk_norm": None}
    assert plain([window, {"type": "none"}, True, 0.1, "x"]) == (
        "[grouped_query(window=5, qk_norm=null), none, true, 0.1, x]"
    )


def test_text_is_never_read_as_markup_and_never_cut(capsys: pytest.CaptureFixture[str]):
    print_table("[red]title[/red]", ["", "a"], [["[bold]name", "x" * 500], ["n", "2"]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[red]title[/red]"
    assert any(line == f"[bold]name   {'x' * 500}" for line in lines)
