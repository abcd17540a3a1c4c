"""Reports: whole, self-contained, harmless whatever things are called, and always the same."""

import re
from base64 import b64decode
from functools import partial
from html import unescape
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from example_study import BPB, EFFECTS, example

from gptlab.compare.report import sizes, tables, write_report
from gptlab.compare.report.contents import cost_beside, pictures
from gptlab.compare.report.curves import band_of
from gptlab.compare.report.html import page
from gptlab.compare.report.markdown import markdown
from gptlab.compare.report.pareto import frontier, pareto
from gptlab.compare.results import Curve, Results

VOID = {"meta", "br", "img"}


class Reader(HTMLParser):
    """Collects tags, and complains of any that is not closed in its place."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def study():
    return example()


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_report(study, folder)
    return folder


def test_the_page_is_whole_and_needs_nothing_else(folder):
    page = read(folder / "report.html")
    assert "script" not in page.tags
    assert len(page.links) == 5
    for link in page.links:
        form, _, content = link.partition(",")
        assert form == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(b64decode(content)).tag == "{http://www.w3.org/2000/svg}svg"


def test_the_verdicts_come_first(study, folder):
    text = unescape(re.sub("<[^>]*>", "", (folder / "report.html").read_text(encoding="utf-8")))
    head = text[: text.index("The answer")]
    first = [x for x in study.comparisons if x.metric == study.metrics[0].name]
    assert {x.verdict for x in first} == {"better", "worse", "not resolved", "not comparable"}
    for found in first:
        assert f"{found.variant} {found.text}" in head
    assert study.question in head
    assert "peak memory, bytes (estimate)" in text
    assert "costs: FLOPs/token +6%, time +8%, tokens/s −7%" in head
    assert "huge_lr: diverged (report), seed 0, 2, 3, 4: the loss of step 412" in head
    assert "window is not at the budget: no d_ff comes nearer" in head
    assert "window: the best optimizer.lr is at the edge of what was tried (0.01)" in head


def test_times_that_were_taken_beside_other_runs_are_no_costs(study):
    swiglu = next(found for found in study.comparisons if "time +8%" in cost_beside(study, found))
    for shared in (swiglu.variant, study.base):
        costs = [
            cost.model_copy(update={"timed_beside": int(cost.variant == shared)})
            for cost in study.costs
        ]
        beside = study.model_copy(update={"costs": costs})
        assert cost_beside(beside, swiglu) == "costs: FLOPs/token +6%"
        marked = [row[0] for row in tables.costs(beside).rows if "*" in " ".join(row)]
        assert marked == [shared]
        assert [row[0] for row in tables.costs(beside).rows if row[5].endswith(" *")] == marked
        told = {some.name: some.caption for each in pictures(beside).values() for some in each}
        assert "equal, and times taken beside other runs, are left out." in told["pareto"]
        assert "times taken beside other runs are drawn as they went." in told["curves"]
        assert "and so another look" in page(beside, pictures(beside))
        assert "and so another look" in markdown(beside, pictures(beside))
    same = [cost.model_copy(update={"variant": swiglu.variant}) for cost in costs]
    same = beside.model_copy(update={"costs": [costs[0], same[0]]})
    assert cost_beside(same, swiglu) == "costs the same, but for time, which was not taken alone"


def test_of_times_that_were_taken_alone_nothing_is_said(study, folder):
    assert not any("beside" in each.caption for some in pictures(study).values() for each in some)
    for file in ("report.html", "report.md"):
        text = (folder / file).read_text(encoding="utf-8")
        assert "Those with a" not in text
        assert "<p></p>" not in text


def test_where_no_arm_reaches_the_target_nothing_is_drawn_against_costs(study):
    """One arm that does is no comparison; two are."""
    reached = {name: 400.0 + 10 * place for place, name in enumerate(("swiglu", "window"))}
    for names in ((), ("swiglu",), ("swiglu", "window")):
        runs = [
            run.model_copy(update={"metrics": {BPB.name: reached.get(run.variant)}})
            if run.variant in names
            else run.model_copy(update={"metrics": {BPB.name: None}})
            for run in study.runs
        ]
        drawn = pareto(study.model_copy(update={"runs": runs}))
        assert (drawn is not None) == (len(names) == 2)


def test_results_of_before_say_nothing_of_how_they_were_timed(study):
    tree = study.model_dump(mode="json")
    for cost in tree["costs"]:
        del cost["timed_beside"]
    assert Results.model_validate(tree) == study


def test_every_run_has_its_command(study, folder):
    page = unescape((folder / "report.html").read_text(encoding="utf-8"))
    text = (folder / "report.md").read_text(encoding="utf-8")
    for run in study.runs:
        assert f"<code>{run.command}</code>" in page
        assert f"`{run.command}`" in text


def test_tables_of_markdown_are_rectangles_and_its_figures_exist(folder):
    text = (folder / "report.md").read_text(encoding="utf-8")
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) >= 6
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    figures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert sorted(figures) == sorted(f"figures/{x.name}" for x in (folder / "figures").iterdir())


def test_the_same_results_give_the_same_files(study, folder, tmp_path):
    write_report(study, tmp_path)
    write_report(study, tmp_path)
    for file in ("report.html", "report.md"):
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()


def test_names_are_texts_and_nothing_else(tmp_path):
    name = "<img src=x onerror=alert(1)>|$x^$&"
    study = example(names=("gpt2", "rotary"))
    study = study.model_copy(update={"question": "Does rotary help?"})
    text = study.model_dump_json().replace("rotary", name)
    write_report(type(study).model_validate_json(text), tmp_path)
    page = read(tmp_path / "report.html")
    assert all(link.startswith("data:image/svg+xml;base64,") for link in page.links)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert re.search(r"(?<!\\)<img", re.sub("`[^`]*`", "", text)) is None


@pytest.mark.parametrize(
    "options",
    [
        {"seeds": (0,), "names": ("gpt2", "rotary")},
        {"seeds": (0, 1), "scales": ("nano", "micro", "small"), "names": ("gpt2", "rotary")},
        {"names": ("gpt2", "huge_lr")},
        {"names": ("gpt2", "other_data")},
    ],
)
def test_small_and_large_studies(options, tmp_path):
    read(write_report(example(**options), tmp_path))


def test_several_sizes_tell_whether_a_gain_survives(tmp_path):
    """The example's gains are the same at every size: a slope of 0 must be among what is said."""
    study = example(scales=("nano", "micro", "small"), names=("gpt2", "rotary", "other_data"))
    write_report(study, tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8").replace("\\", "")
    assert "no curve is fitted: a curve over 3 sizes that span a factor of 16 would be" in text
    found = re.search(r"rotary: at ten times the size .* \((\S+) to (\S+), p = ", text)
    assert found
    low, high = (float(end.replace("−", "-")) for end in found.groups())
    assert low < 0 < high
    assert "other_data: at ten" not in text


def test_enough_sizes_have_a_curve(tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "fit", partial(sizes.fit, resamples=20))
    scales = ("a", "b", "c", "d", "e")
    write_report(example(seeds=(0, 1), scales=scales, names=("gpt2", "rotary")), tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.search(r"rotary: the loss falls to \S+ by N\^-\S+ \(exponent ", text)


def test_ticks_are_numbers():
    """A variant may be called $x$, so nothing is read as mathematics: powers of ten neither."""
    study = example(seeds=(0, 1), scales=("nano", "small"), names=("gpt2", "rotary"))
    drawn = [picture for some in pictures(study).values() for picture in some]
    assert {picture.name for picture in drawn} >= {"sizes", "tuning-nano"}
    for picture in drawn:
        picture.svg()
        for axes in picture.figure.axes:
            labels = [*axes.get_xticklabels(), *axes.get_yticklabels()]
            assert not any("$" in label.get_text() for label in labels)


def test_a_study_of_which_nothing_ran(study, tmp_path):
    bare = {"runs": [], "costs": [], "tuning": [], "comparisons": [], "noise": {}}
    read(write_report(study.model_copy(update=bare), tmp_path))
    assert list((tmp_path / "figures").iterdir()) == []


def test_more_variants_than_colors(tmp_path):
    names = tuple(EFFECTS)
    study = example(seeds=(0, 1), names=names)
    more = [x.model_copy(update={"name": f"{x.name}2"}) for x in study.variants[1:]]
    write_report(study.model_copy(update={"variants": [*study.variants, *more]}), tmp_path)


def test_bands_hold_the_steps_that_all_runs_have():
    one = Curve(
        steps=[0, 5, 10, 15],
        tokens=[0, 50, 100, 150],
        flops=[0, 1, 2, 3],
        seconds=[0, 1, 2, 3],
        train_loss=[None] * 4,
        val_loss=[4.0, None, 2.0, 1.0],
    )
    other = one.model_copy(update={"seconds": [0, 3, 4, 9], "val_loss": [5.0, 3.0, 3.0, None]})
    band = band_of([one, other])
    assert band is not None
    assert (band.x["tokens"], band.x["seconds"]) == ([0, 100], [0, 3])
    assert (band.mean, band.low, band.high) == ([4.5, 2.5], [4.0, 2.0], [5.0, 3.0])
    assert band_of([]) is None


def test_the_frontier_holds_what_nothing_beats_at_both():
    points = [(1.0, 3.0), (2.0, 2.0), (2.0, 2.5), (3.0, 2.0), (4.0, 1.0)]
    assert frontier(points, "lower") == [(1.0, 3.0), (2.0, 2.0), (4.0, 1.0)]
    assert frontier(points, "higher") == [(1.0, 3.0)]
