"""`gptlab recipes`: every recipe with its size and what it is."""

from inspect import cleandoc

from gptlab.model.accounting import count_parameters
from gptlab.recipes import all_recipes
from gptlab.show._print import print_table


def show_recipes() -> None:
    """Print the table of recipes, smallest model first."""
    rows = []
    for name, function in all_recipes().items():
        size = count_parameters(function().resolved().model).total
        rows.append((size, name, cleandoc(function.__doc__ or "").splitlines()[0]))
    print_table(
        "Train one with: gptlab train NAME",
        ["recipe", "parameters", "what it is"],
        [[name, f"{size:,}", what] for size, name, what in sorted(rows)],
    )
