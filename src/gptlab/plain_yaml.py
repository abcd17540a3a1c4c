"""YAML as plain data and nothing more: small, without tags and aliases, texts left as texts."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 50_000  # a resolved config has about 3,000; reading these takes below a second
MAX_DEPTH = 50

_PLAIN = {  # YAML 1.2's plain values, and 3e-4; not 1.1's `no`, 12:30 and 2024-01-01
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0|[1-9]\d*)",
    "float": r"[-+]?((\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
}
_RESOLVERS = {
    None: [(f"tag:yaml.org,2002:{kind}", re.compile(f"({p})$")) for kind, p in _PLAIN.items()]
}


def load_yaml(text: str) -> Any:
    """Read a text as plain data. Raises ValueError, in one line, for anything else."""
    _check_size(len(text))
    try:
        return _Loader(text).get_single_data()
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from None


def read_yaml_file(path: Path) -> Any:
    """Read a small file as plain data. Raises ValueError naming the file."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        _check_size(len(content))
        return load_yaml(content.decode())
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def dump_yaml(tree: Any) -> str:
    """Write plain data so that `load_yaml`, or another reader, gives the same again."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """Plain data: no aliases (a few can stand for gigabytes), no tags, no name given twice."""

    yaml_implicit_resolvers = _RESOLVERS
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.events.AliasEvent):
            raise ValueError(f"aliases (*{event.anchor}) are not allowed in a config")
        if getattr(event, "tag", None):
            raise ValueError(f"tags ({event.tag}) are not allowed in a config")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        counts = Counter(self.construct_object(name) for name, _ in node.value)
        repeated = [str(name)[:80] for name, count in counts.items() if count > 1]
        if repeated:
            raise ValueError(f"given more than once: {', '.join(repeated)}")
        return mapping


class _Dumper(yaml.SafeDumper):
    """Puts in quotes whatever text our loader, or another one, would not read as text."""

    yaml_implicit_resolvers = yaml.SafeDumper.yaml_implicit_resolvers | _RESOLVERS


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES:,} bytes, too large for a config")
