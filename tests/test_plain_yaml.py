from pathlib import Path
from typing import Any

import pytest

from gptlab.plain_yaml import MAX_BYTES, MAX_DEPTH, dump_yaml, load_yaml, read_yaml_file


@pytest.mark.parametrize(
    "tree",
    [
        {"name": "größer", "rate": 1e-7, "count": 3, "on": True, "limit": None, "sizes": [1, [2]]},
        ["1e5", "1E-3", "12:30", "no", "null", "~", "007", "0x10", "2024-01-01", "a: b", "\n*&!"],
        "",
        None,
        0.1,
    ],
)
def test_what_is_written_is_read_again(tree: Any, tmp_path: Path):
    text = dump_yaml(tree)
    assert repr(load_yaml(text)) == repr(tree)
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    assert repr(read_yaml_file(path)) == repr(tree)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("-2E-3", -2e-3),
        ("1e5", 1e5),
        ("", None),
        ("~", None),
        ("no", "no"),
        ("12:30", "12:30"),
        ("007", "007"),
        ("0x10", "0x10"),
        ("10_000", "10_000"),
        ("2024-01-01", "2024-01-01"),
        ("'null'", "null"),
    ],
)
def test_only_what_looks_like_a_number_to_a_person_is_one(text: str, value: Any):
    assert repr(load_yaml(text)) == repr(value)


def test_names_keep_their_order():
    assert dump_yaml({"b": 1, "a": 2}) == "b: 1\na: 2\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate: [", "not valid YAML: while parsing"),
        ("rate: 1\nrate: 2", "not valid YAML: given more than once: rate"),
        ("count: &a 1\nlimit: *a", "not valid YAML: aliases (*a) are not allowed in a config"),
        ("count: !!int 1", "not valid YAML: tags (tag:yaml.org,2002:int) are not allowed"),
        ("[" * (MAX_DEPTH + 1), f"not valid YAML: nested deeper than {MAX_DEPTH} levels"),
        ("x" * (MAX_BYTES + 1), "larger than 50,000 bytes, too large for a config"),
    ],
)
def test_a_refused_text_is_told_why_in_one_line(text: str, message: str):
    with pytest.raises(ValueError) as error:  # noqa: PT011, the text is compared
        load_yaml(text)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_the_limits_themselves_are_allowed():
    assert load_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert load_yaml("x" * MAX_BYTES) == "x" * MAX_BYTES


# Malicious and absurd texts (they end at once and run nothing)

NINE_TIMES = [
    f"&{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
]
BOMB = f"sizes: [&a [x], {', '.join(NINE_TIMES)}]"  # stands for 9^8 texts
MALICIOUS = {
    "python object": "name: !!python/object/apply:os.system ['touch CANARY']",
    "python object, long form": "name: !<tag:yaml.org,2002:python/object/apply:os.mkdir> [CANARY]",
    "python name": "name: !!python/name:os.system",
    "python module": "name: !!python/module:os",
    "python new": "name: !!python/object/new:pathlib.Path [CANARY]",
    "alias bomb": BOMB,
    "alias of itself": "sizes: &a [*a]",
    "merge of an alias": "norm: &n {type: rms_norm}\nother:\n  <<: *n",
    "int of 5,000 digits": "count: " + "9" * 5000,
    "lists 10,000 deep": "sizes: " + "[" * 10_000 + "]" * 10_000,
    "mappings 10,000 deep": "norm: " + "{type: " * 7_000,
    "block lists 10,000 deep": "- " * 10_000,
    "parts 100 deep": "norm: " + "{type: alternating, of: [" * 100 + "x" + "]}" * 100,
    "explicit date": "name: !!timestamp 2024-01-01",
    "broken date": "name: !!timestamp x",
    "binary": "name: !!binary aGVsbG8=",
    "empty int": "count: !!int ''",
    "broken bool": "count: !!bool maybe",
    "set": "sizes: !!set {1, 2}",
    "name given twice": "count: 1\ncount: 2",
    "list as a name": "[1, 2]: 3",
    "mapping as a name": "? {a: b}\n: 3",
    "control character": "name: \x07",
    "NUL": "name: \0",
    "two documents": "count: 1\n---\ncount: 2",
    "more than 50 kB": "# " + "x" * MAX_BYTES,
    "2 MB": "count: 1\n" * 222_223,
    "not YAML at all": "\x7fELF\x02\x01\x01",
}


@pytest.mark.parametrize("text", MALICIOUS.values(), ids=list(MALICIOUS))
def test_a_malicious_text_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode())
    with pytest.raises(ValueError) as error:  # noqa: PT011, any text will do
        load_yaml(text)
    assert type(error.value) is ValueError
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 500
    with pytest.raises(ValueError, match=r"config\.yaml"):
        read_yaml_file(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.yaml"]


def test_files_that_are_not_text_are_refused_by_name(tmp_path: Path):
    path = tmp_path / "weights.yaml"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(ValueError, match=r"weights.yaml is not a text file"):
        read_yaml_file(path)
    path.write_text("a" * (MAX_BYTES + 1))
    with pytest.raises(ValueError, match=r"weights.yaml: larger than 50,000 bytes"):
        read_yaml_file(path)
