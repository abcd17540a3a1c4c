"""What docs/architecture.md says of files and layers is so."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TREE = re.search(r"## The folders\n\n(.*?)\n\n", TEXT, re.DOTALL)
LAYERS = re.search(r"^ +cli > .*\n.*$", TEXT, re.MULTILINE)


def paths_in_tree() -> list[Path]:
    """Put together what the indented lines name."""
    assert TREE
    paths, parents = [], {}
    for line in TREE[1].splitlines():
        indent = len(line) - len(line.lstrip())
        path = parents.get(indent - 2, Path()) / line.split()[0]
        parents[indent] = path
        paths.append(path)
    return paths


def test_the_tree_names_what_exists_and_every_package():
    paths = paths_in_tree()
    assert [str(path) for path in paths if not (ROOT / path).exists()] == []
    packages = {
        file.parent.relative_to(ROOT) for file in (ROOT / "src" / "gptlab").rglob("__init__.py")
    }
    assert packages - set(paths) == set()


def test_the_layers_are_those_that_are_checked():
    assert LAYERS
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    checked = pyproject["tool"]["importlinter"]["contracts"][0]["layers"]
    assert [layer.strip() for layer in LAYERS[0].split(">")] == checked[1:]
