"""`report.md`: the report as text, with the figures beside it."""

from gptlab.compare.report import tables
from gptlab.compare.report.contents import (
    METHOD,
    answers,
    cost_beside,
    facts,
    on_times,
    warnings,
)
from gptlab.compare.report.picture import VERDICTS, Picture
from gptlab.compare.report.tables import Sheet
from gptlab.compare.results import Results

FIGURES = "figures"


def markdown(results: Results, pictures: dict[str, list[Picture]]) -> str:
    """Write the whole report."""
    parts = [f"# {results.name}", _text(results.question), _answers(results)]
    if found := warnings(results):
        parts += ["## Before you believe it", "\n".join(f"- {_text(x)}" for x in found)]
    parts += ["\n".join(f"- **{name}**: {_text(text)}" for name, text in facts(results).items())]
    for section, some in pictures.items():
        if some:
            parts += [f"## {section}", *map(_figure, some)]
    for metric in results.metrics:
        parts += [f"## {metric.title.capitalize()}", table(tables.differences(results, metric))]
    parts += ["## What each arm is", table(tables.changes(results))]
    parts += ["## Cost", table(tables.costs(results)), on_times(results)]
    undeclared = tables.findings(results)
    if undeclared.rows:
        parts += ["## Undeclared differences", table(undeclared)]
    parts += ["## How to read this", METHOD.format(alpha=1 - results.confidence)]
    parts += ["## Every run", f"`{results.command}`", table(tables.runs(results))]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(sheet: Sheet) -> str:
    """Write a table of Markdown."""
    lines = [sheet.headings, ["---"] * len(sheet.headings)]
    lines += [
        [f"`{cell}`" if i in sheet.codes else _text(cell) for i, cell in enumerate(row)]
        for row in sheet.rows
    ]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in x)} |" for x in lines)


def _answers(results: Results) -> str:
    return "\n".join(
        f"- {VERDICTS[x.verdict][1]} **{_text(x.variant)}**"
        + (f" ({_text(x.scale)})" if x.scale else "")
        + f" {_text(x.text)}; {cost_beside(results, x)}"
        for x in answers(results)
    )


def _figure(picture: Picture) -> str:
    return f"![{picture.title}]({FIGURES}/{picture.name}.png)\n\n{_text(picture.caption)}"


def _text(text: str) -> str:
    """Keep what was named by a person from being read as Markdown."""
    for sign in "\\`*_<[":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
