"""Reports of a study: `report.html`, `report.md` and PNG figures, from its results alone.

A person who looks for one minute at either knows the answer: it comes first, in words.
"""

from pathlib import Path

from gptlab import files
from gptlab.compare.report.contents import pictures
from gptlab.compare.report.html import page
from gptlab.compare.report.markdown import FIGURES, markdown
from gptlab.compare.results import Results


def write_report(results: Results, folder: Path) -> Path:
    """Write the reports into a folder that exists, over those that are there; returns the page."""
    drawn = pictures(results)
    if not (folder / FIGURES).is_dir():
        files.make_folder(folder / FIGURES)
    for some in drawn.values():
        for picture in some:
            files.replace(folder / FIGURES / f"{picture.name}.png", picture.png())
    files.replace(folder / "report.md", markdown(results, drawn).encode())
    html = folder / "report.html"
    files.replace(html, page(results, drawn).encode())
    return html
