"""`report.html`: one file that opens anywhere, offline; the figures are in it, nothing runs."""

from base64 import b64encode
from html import escape

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

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #24292f; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #d0d7de; }
.question { color: #57606a; font-size: 1.15rem; margin-top: 0.3rem; }
.answers { display: grid; gap: 0.5rem; padding: 0; list-style: none; }
.answers li { border-left: 6px solid; padding: 0.35rem 0.8rem; background: #f6f8fa; }
.answers b, .answers span { color: #24292f; } .answers small { color: #57606a; }
.verdict { font-weight: 600; padding-right: 0.5rem; }
.warnings { background: #fff8c5; border: 1px solid #d4a72c; padding: 0.6rem 0.6rem 0.6rem 1.8rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.1rem 1rem; }
dt { color: #57606a; } dd { margin: 0; }
figure { margin: 1rem 0; } img { width: 100%; height: auto; }
figcaption { color: #57606a; font-size: 0.9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 0.2rem 0.7rem 0.2rem 0; border-bottom: 1px solid #eaeef2; }
.words { text-align: left; } td:not(.words), td:first-child { white-space: nowrap; }
th { color: #57606a; font-weight: 500; vertical-align: bottom; }
code, pre { font: 0.85rem ui-monospace, monospace; } td code { white-space: nowrap; }
pre { background: #f6f8fa; padding: 0.8rem; overflow-x: auto; }
summary { cursor: pointer; } @media print { details { break-inside: avoid; } }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(results: Results, pictures: dict[str, list[Picture]]) -> str:
    """Write the whole report."""
    parts = [
        f"<h1>{escape(results.name)}</h1>",
        f'<p class="question">{escape(results.question)}</p>' if results.question else "",
        _answers(results),
        _warnings(results),
        _facts(facts(results)),
        _section("The answer", "".join(map(_figure, pictures["The answer"]))),
        table(tables.differences(results, results.metrics[0])),
    ]
    for section in ("Does it survive scale?", "Loss on the way", "Quality against cost"):
        parts += [_section(section, "".join(map(_figure, pictures[section])))]
    parts += [_section("Cost", table(tables.costs(results)) + _paragraph(on_times(results)))]
    parts += [_section("Tuning", "".join(map(_figure, pictures["Tuning"])))]
    parts += [_section("Other metrics", _others(results, pictures["Other metrics"]))]
    parts += [_section("What each arm is", table(tables.changes(results)) + _wirings(results))]
    undeclared = tables.findings(results)
    if undeclared.rows:
        parts += [_section("Undeclared differences", table(undeclared))]
    parts += [_section("How to read this", _paragraph(METHOD.format(alpha=1 - results.confidence)))]
    parts += [_section("Every number again", _provenance(results))]
    return _document(results.name, "\n".join(part for part in parts if part))


def table(sheet: Sheet) -> str:
    """Write a table; a row of words stands on the left, numbers on the right."""
    kinds = [
        "" if all(_is_number(row[i]) for row in sheet.rows) else ' class="words"'
        for i in range(len(sheet.headings))
    ]
    heads = "".join(
        f"<th{kind}>{escape(heading)}</th>"
        for kind, heading in zip(kinds, sheet.headings, strict=True)
    )
    cells = [
        [_code(x) if i in sheet.codes else escape(x) for i, x in enumerate(row)]
        for row in sheet.rows
    ]
    rows = "".join(
        f"<tr>{''.join(f'<td{kind}>{x}</td>' for kind, x in zip(kinds, row, strict=True))}</tr>"
        for row in cells
    )
    content = f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="wide"><table>{content}</table></div>'


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _is_number(text: str) -> bool:
    return text == "" or text[0].isdigit() or text[0] in "+−–<"


def _document(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _answers(results: Results) -> str:
    lines = []
    for found in answers(results):
        color, sign = VERDICTS[found.verdict]
        name = f"{found.variant} ({found.scale})" if found.scale else found.variant
        lines.append(
            f'<li style="color:{color}"><span class="verdict" style="color:{color}">{sign}</span>'
            f"<b>{escape(name)}</b> <span>{escape(found.text)}</span>"
            f"<br><small>{escape(cost_beside(results, found))}</small></li>"
        )
    return f'<ul class="answers">{"".join(lines)}</ul>'


def _warnings(results: Results) -> str:
    found = "".join(f"<li>{escape(text)}</li>" for text in warnings(results))
    return f'<h2>Before you believe it</h2><ul class="warnings">{found}</ul>' if found else ""


def _facts(facts: dict[str, str]) -> str:
    lines = "".join(f"<dt>{escape(x)}</dt><dd>{escape(text)}</dd>" for x, text in facts.items())
    return f"<dl>{lines}</dl>"


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{content}" if content else ""


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>" if text else ""


def _figure(picture: Picture) -> str:
    source = f"data:image/svg+xml;base64,{b64encode(picture.svg()).decode()}"
    return (
        f'<figure><img alt="{escape(picture.title)}" src="{source}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _others(results: Results, some: list[Picture]) -> str:
    drawn = {picture.name: _figure(picture) for picture in some}
    return "".join(
        f"<h3>{escape(metric.title.capitalize())}</h3>{drawn.get(f'forest-{metric.name}', '')}"
        + table(tables.differences(results, metric))
        for metric in results.metrics[1:]
    )


def _wirings(results: Results) -> str:
    return "".join(
        f"<details><summary>{escape(variant.name)}: wiring and recipe</summary>"
        f"<pre>{escape(variant.wiring)}</pre><pre>{escape(variant.recipe)}</pre></details>"
        for variant in results.variants
    )


def _provenance(results: Results) -> str:
    environment = "\n".join(f"{name}: {value}" for name, value in results.environment.items())
    return (
        f"<p>The study: <code>{escape(results.command)}</code>. Every number here is in, or "
        "follows from, <code>results.json</code> beside this file.</p>"
        f"<details><summary>The {len(results.runs)} runs, with the command of each</summary>"
        f"{table(tables.runs(results))}</details>"
        f"<details><summary>What they ran on</summary><pre>{escape(environment)}</pre></details>"
    )
