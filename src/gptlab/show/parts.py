"""`gptlab parts`: every slot, its variants and their settings, read from the folders.

What is told of a slot is Markdown, which `docs/parts.md` holds for all of them.
"""

import sys
from collections.abc import Iterator

from rich.console import Console
from rich.markdown import Markdown

from gptlab.config import Part, find_variant, variant_names
from gptlab.show._costs import (
    Cost,
    cost_of,
    is_in_model,
    plain_choice,
    plain_cost,
    reference,
    refused_beside,
)
from gptlab.show._print import print_table, rounded
from gptlab.show._sheets import Sheet, link_papers, read_document, read_sheet
from gptlab.show._slots import Slot, all_slots, find_slot

COMMAND = "gptlab parts --markdown > docs/parts.md"
INTRO = """\
# Parts

Every slot and every variant, written from the docstrings, the fields and the built models by
`{command}`.
`gptlab parts SLOT` and `gptlab parts SLOT VARIANT` print the same.

Costs are those of a whole model of GPT-2's size (d_model {d_model}, {n_layers} layers, context
{context_length}, vocabulary {vocab_size}) in which every part is as its name alone makes it:
parameters, FLOPs of a forward pass per token, bytes of cache per token in bf16. A slot's plain
choice has them in full, the others what they add to it; = is nothing, – stands where a name alone
makes no such model. What is refused beside a variant was refused when it was built.
"""
COSTS = {"parameters": ("parameters", ""), "flops": ("FLOPs", ""), "cache": ("cache", "B")}


def parts(slot: str | None = None, variant: str | None = None, markdown: bool = False) -> None:
    """Print all slots in brief, or all that there is to know: of all, a slot, or a variant."""
    if slot is None and markdown:
        print(manual(), end="")
    elif slot is None:
        _print_overview()
    else:
        found = find_slot(slot)
        lines = _slot(found) if variant is None else _one(found, variant)
        _print_markdown("\n".join(lines), markdown)


def manual() -> str:
    """Write all of it as one document."""
    model = reference().model
    slots = all_slots().values()
    contents = [
        f"* [`{slot.path}`](#{slot.name}): " + ", ".join(f"`{v}`" for v in variant_names(slot.kind))
        for slot in slots
    ]
    intro = INTRO.format(command=COMMAND, **model.model_dump())
    texts = [intro, "\n".join(contents) + "\n", *("\n".join(_slot(slot)) for slot in slots)]
    return "\n".join(texts)


def _print_overview() -> None:
    for slot in all_slots().values():
        rows = [_row(find_variant(slot.kind, name)) for name in variant_names(slot.kind)]
        title = f"{slot.path}\n{read_document(slot.kind.__module__).splitlines()[0]}"
        print_table(title, ["variant", "settings", "what it is"], rows)


def _row(variant: type[Part]) -> list[str]:
    sheet = read_sheet(variant)
    settings = "\n".join(f"{setting.name} = {setting.default}" for setting in sheet.settings)
    return [sheet.name, settings, read_document(variant.__module__).splitlines()[0]]


def _print_markdown(text: str, as_it_is: bool) -> None:
    if as_it_is or not sys.stdout.isatty():
        print(text)
    else:
        Console().print(Markdown(text))


def _sheet(slot: Slot, variant: str) -> Sheet:
    return read_sheet(find_variant(slot.kind, variant))


def _slot(slot: Slot) -> Iterator[str]:
    """Write a slot: what it is for, its variants side by side, then each by itself."""
    about = read_document(slot.kind.__module__).splitlines()[0]
    yield from (f"## {slot.name}", "", f"`{slot.path}`. {link_papers(about)}", "")
    sheets = [_sheet(slot, name) for name in variant_names(slot.kind)]
    rows = [[f"[`{s.name}`](#{slot.name}-{s.name})", s.brief] for s in sheets]
    costs = [_costs(slot, s.name) for s in sheets]
    differ = any(cell[0] in "+−" for cells in costs for cell in cells)
    headings = [heading for heading, _ in COSTS.values()] if differ else []
    rows = [row + cells[: len(headings)] for row, cells in zip(rows, costs, strict=True)]
    yield from _table(["variant", "what it is", *headings], rows)
    for sheet in sheets:
        yield from _variant(slot, sheet)


def _one(slot: Slot, variant: str) -> Iterator[str]:
    yield from _variant(slot, _sheet(slot, variant))
    yield from _cost(slot, variant)


def _variant(slot: Slot, sheet: Sheet) -> Iterator[str]:
    yield from (f"### {slot.name}: {sheet.name}", "", sheet.brief, "")
    if sheet.more:
        yield from (sheet.more, "")
    if sheet.settings:
        rows = [[f"`{s.name}`", s.kind, s.default, s.meaning] for s in sheet.settings]
        yield from _table(["setting", "values", "default", "meaning"], rows)
    refused = refused_beside(slot, sheet.name) if is_in_model(slot) else []
    if refused:
        yield from (f"Refused beside {', '.join(f'`{setting}`' for setting in refused)}.", "")


def _cost(slot: Slot, variant: str) -> Iterator[str]:
    """Tell in words what a variant costs, where its slot's table is not at hand."""
    cells = dict(zip(COSTS, _costs(slot, variant), strict=True))
    told = [f"{COSTS[name][0]} {cell}" for name, cell in cells.items() if cell != "–"]
    if told:
        plain = plain_choice(slot)
        beside = f", beside {plain or 'none'}" if variant != plain else ""
        yield from (f"Cost in a model of GPT-2's size{beside}: {', '.join(told)}.", "")


def _costs(slot: Slot, variant: str) -> list[str]:
    """Write each cost: in full for the plain choice, as a difference to it for the others."""
    found = cost_of(slot, variant) if is_in_model(slot) else None
    if found is None:
        return ["–"] * len(COSTS)
    if variant == plain_choice(slot):
        return [rounded(getattr(found, name)) + unit for name, (_, unit) in COSTS.items()]
    return [_difference(found, plain_cost(slot), name) for name in COSTS]


def _difference(found: Cost, plain: Cost, name: str) -> str:
    more = getattr(found, name) - getattr(plain, name)
    sign = "+" if more > 0 else "−"
    return f"{sign}{rounded(abs(more))}{COSTS[name][1]}".strip() if more else "="


def _table(headings: list[str], rows: list[list[str]]) -> Iterator[str]:
    for cells in (headings, ["---"] * len(headings), *rows):
        escaped = [cell.replace("|", "\\|").strip() for cell in cells]
        yield f"| {' | '.join(escaped)} |"
    yield ""
