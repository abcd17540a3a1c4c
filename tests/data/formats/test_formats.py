"""Readers: every format gives the documents that were written, and says what is wrong."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gptlab.data import formats
from gptlab.data.formats import Errors, Reading

DOCUMENTS = [
    "one",
    "two lines\nof text\r\nand more",
    'quotes " and, commas',
    "naïve 東京 🙂",
    "",
    "\ufeffno mark of a file",
    "<|endoftext|>",
    "word " * 300_000,
    "\t tab",
]


def jsonl(texts: list[str], column: str = "text") -> bytes:
    return "".join(json.dumps({"id": 1, column: text}) + "\n" for text in texts).encode()


def json_list(texts: list[str]) -> bytes:
    return json.dumps([{"text": text, "id": [1]} for text in texts], indent=1).encode()


def comma_separated(texts: list[str], delimiter: str = ",") -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerows([["id", "text"], *([1, text] for text in texts)])
    return out.getvalue().encode()


def parquet(texts: list[str], rows: int = 2, **options: Any) -> bytes:
    arrow = pytest.importorskip("pyarrow")
    library = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"id": list(range(len(texts))), "text": texts})
    out = io.BytesIO()
    library.write_table(table, out, row_group_size=rows, **options)
    return out.getvalue()


def zst(content: bytes) -> bytes:
    library = pytest.importorskip("zstandard")
    half = len(content) // 2  # two frames
    return b"".join(library.compress(part) for part in (content[:half], content[half:]))


WRITERS: dict[str, Callable[[list[str]], bytes]] = {
    "a.jsonl": jsonl,
    "a.ndjson": lambda texts: b"\xef\xbb\xbf" + jsonl(texts).replace(b"\n", b"\r\n\n"),
    "a.json": json_list,
    "objects.json": jsonl,
    "a.csv": comma_separated,
    "a.tsv": lambda texts: comma_separated(texts, "\t"),
    "a.parquet": parquet,
    "a.jsonl.gz": lambda texts: gzip.compress(jsonl(texts)),
    "a.json.gz": lambda texts: gzip.compress(json_list(texts)),
    "a.csv.gz": lambda texts: gzip.compress(comma_separated(texts)),
    "a.jsonl.zst": lambda texts: zst(jsonl(texts)),
    "a.csv.zst": lambda texts: zst(comma_separated(texts)),
}


def read(file: Path, reading: Reading | None = None, size: int = 2**20) -> list[str]:
    """Put the fragments of all spans together to documents."""
    reading = reading or Reading()
    texts: list[str] = []
    for span, _ in formats.spans(file, size, reading):
        for fragment in formats.fragments(span, reading):
            if fragment.first:
                texts.append("")
            texts[-1] += fragment.text
    return texts


def write(folder: Path, name: str, content: bytes) -> Path:
    file = folder / name
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("size", [2**20, 2**22])
def test_documents_come_back(name: str, size: int, tmp_path: Path):
    file = write(tmp_path, name, WRITERS[name](DOCUMENTS))
    assert read(file, size=size) == DOCUMENTS


@pytest.mark.parametrize("size", [10, 17, 100, 10**6])
def test_lines_belong_where_they_begin(size: int, tmp_path: Path):
    texts = [str(i) * (i % 5) for i in range(60)]
    assert read(write(tmp_path, "a.jsonl", jsonl(texts)), size=size) == texts


@pytest.mark.parametrize("separator", ["<|endoftext|>", "--\n", "\n\n", "x"])
@pytest.mark.parametrize("size", [20, 33, 10**6])
@pytest.mark.parametrize("chunk", [5, 2**18])
def test_separated_documents(
    separator: str, size: int, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gptlab.data.formats.text.CHUNK", chunk)
    texts = [f"{i}é\r\n" * (i % 7) for i in range(50)] + ["the end"]
    content = b"\xef\xbb\xbf" + separator.join(texts).encode()
    file = write(tmp_path, "a.txt", content)
    expected = separator.join(texts).split(separator)
    assert read(file, Reading(separator=separator), size) == expected
    file.write_bytes(content + separator.encode())
    assert read(file, Reading(separator=separator), size) == expected


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.py", "README", "a.txt.gz", "a.txt.zst"])
def test_a_file_of_text_is_a_document(name: str, tmp_path: Path):
    text = "\ufeffline\r\n\r\nnaïve\n" + "long " * 700_000
    content = text.encode()
    pack = {".gz": gzip.compress, ".zst": zst}.get(name[-4:].lstrip("t"), bytes)
    if name.endswith(".zst"):
        pack = zst
    file = write(tmp_path, name, pack(content))
    assert read(file) == [text.removeprefix("\ufeff")]


def wrong(name: str) -> bytes:
    """A file with a document that is not UTF-8 between two that are."""
    if name == "a.parquet":
        arrow, library = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        out = io.BytesIO()
        library.write_table(arrow.table({"text": [b"good", b"caf\xe9!", b"fine"]}), out)
        return out.getvalue()
    lines = {
        "a.jsonl": [b'{"text": "good"}', b'{"text": "caf\xe9!"}', b'{"text": "fine"}'],
        "a.json": [b'[{"text": "good"},', b'{"text": "caf\xe9!"},', b'{"text": "fine"}]'],
        "a.csv": [b"text", b"good", b"caf\xe9!", b"fine"],
        "a.txt": [b"good", b"caf\xe9!", b"fine"],
    }
    return b"\n".join(lines[name])


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt", "a.parquet"])
def test_what_is_not_utf8(name: str, tmp_path: Path):
    file = write(tmp_path, name, wrong(name))

    def fragments(errors: Errors) -> list[tuple[str, bool]]:
        reading = Reading(errors=errors, separator="\n")
        spans = formats.spans(file, 2**20, reading)
        return [(f.text, f.wrong) for span, _ in spans for f in formats.fragments(span, reading)]

    with pytest.raises(ValueError, match=f"{name}.*not UTF-8 text: byte .* is 0x"):
        fragments("strict")
    replaced = fragments("replace")
    assert [text for text, _ in replaced][::2] == ["good", "fine"]
    assert set(replaced[1][0]) == set("caf\ufffd!")
    assert [is_wrong for _, is_wrong in replaced] == [False, True, False]
    assert fragments("skip") == [("good", False), ("", True), ("fine", False)]


def test_the_byte_that_is_wrong_is_named(tmp_path: Path):
    content = b"word " * 300_000 + b"\xff" + b"word " * 10
    with pytest.raises(ValueError, match=r"a\.txt: not UTF-8 text: byte 1,500,000 is 0xff"):
        read(write(tmp_path, "a.txt", content))
    with pytest.raises(ValueError, match=r"a\.txt: not UTF-8 text: byte 7 is NUL"):
        read(write(tmp_path, "a.txt", b"one\ntwo\0"), Reading(separator="\n"))


def test_nul_and_half_a_surrogate_pair_are_no_text(tmp_path: Path):
    for spelled in ("\\u0000", "\\ud800"):
        file = write(tmp_path, "a.jsonl", b'{"text": "a%s"}\n' % spelled.encode())
        with pytest.raises(ValueError, match="not UTF-8"):
            read(file)
        (replaced,) = read(file, Reading(errors="replace"))
        assert replaced[0] == "a"
        assert set(replaced[1:]) == {"\ufffd"}


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_column_says_which_there_are(name: str, tmp_path: Path):
    file = write(tmp_path, name, WRITERS[name](["one", "two"]))
    with pytest.raises(
        ValueError, match=r"no column 'txt'; did you mean 'text'\?.*(id|text), "
    ) as e:
        read(file, Reading(column="txt"))
    assert str(file) in str(e.value)
    assert "--column" in str(e.value)


@pytest.mark.parametrize("share", [0.1, 0.45, 0.9, 0.999])
@pytest.mark.parametrize(
    "name", ["a.jsonl.gz", "a.jsonl.zst", "a.csv.zst", "a.parquet", "a.txt.gz", "a.json"]
)
def test_a_file_cut_short_is_never_taken_for_whole(name: str, share: float, tmp_path: Path):
    texts = [f"{i * 12345 % 1009} text" for i in range(500)]
    content = WRITERS.get(name, lambda texts: gzip.compress("\n".join(texts).encode()))(texts)
    file = write(tmp_path, name, content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=f"{name}.*(cut short)") as error:
        read(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_a_file_that_is_no_such_file(name: str, tmp_path: Path):
    with pytest.raises(ValueError, match=name):
        read(write(tmp_path, name, b"this is plain text, more than a few words of it"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_an_empty_file_has_no_documents(name: str, tmp_path: Path):
    assert read(write(tmp_path, name, b"")) == []


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', "line at byte 14: not JSON"),
        ("a.jsonl", b'["a"]\n', "not an object"),
        ("a.jsonl", b'{"text": ["a"]}\n', "holds no text but list"),
        ("a.json", b'{"data": [{"text": "a"}]}', "no column 'text' .there are: data."),
        ("a.csv", b"id,text\n1,a\n2\n", "row 3: 1 values"),
        ("a.csv", b'id,text\n1,"a\n2,b\n', r"a\.csv: line 3: damaged or cut short"),
        ("a.json", b"[" * 200_000, r"a\.json: cannot be read: .*recursion"),
        ("a.json", b'[{"text": 1' + b"0" * 5000 + b"}, {}]", r"a\.json: cannot be read: .*4300"),
        ("a.json", b'[{"text": 1' + b"0" * 5000 + b"}]", r"a\.json: cannot be read: .*4300"),
    ],
)
def test_records_that_cannot_be_read(name: str, content: bytes, problem: str, tmp_path: Path):
    with pytest.raises(ValueError, match=problem):
        read(write(tmp_path, name, content))


def test_lines_that_cannot_be_read_can_be_skipped(tmp_path: Path):
    content = b'{"text": "a"}\nnonsense\n{"text": 5}\n{"text": "b"}\n{"text": null}\n'
    file = write(tmp_path, "a.jsonl", content)
    assert read(file, Reading(errors="skip")) == ["a", "", "", "b", ""]


def test_records_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("jsonl", "json"):
        monkeypatch.setattr(f"gptlab.data.formats.{name}.MAX_RECORD", 100_000)
        file = write(tmp_path, f"a.{name}", b'{"text": "' + b"x" * 1_000_000)
        with pytest.raises(ValueError, match="100,000 bytes"):
            read(file)


def test_a_line_of_csv_without_an_end_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gptlab.data.formats.csv.MAX_RECORD", 100_000)
    texts = ["x" * 90_000, "line\rof old\r\nand new\n"]
    assert read(write(tmp_path, "a.csv", comma_separated(texts))) == texts
    file = write(tmp_path, "a.csv", b"id,text\n" + b"x," * 10**6)
    with pytest.raises(ValueError, match=r"a\.csv: line 2: longer than 100,000 characters"):
        read(file)


def test_lines_of_csv_may_end_as_on_old_machines(tmp_path: Path):
    assert read(write(tmp_path, "a.csv", b"id,text\r1,a\r2,b\r")) == ["a", "b"]


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "large_binary"])
def test_bytes_in_a_parquet_column_of_text(kind: str, tmp_path: Path):
    arrow = pytest.importorskip("pyarrow")
    content = arrow.array([b"good", b"caf\xe9!", None, b"fine"], "binary")
    if "string" in kind:
        buffers = content.buffers()
        content = arrow.Array.from_buffers(arrow.string(), 4, buffers)
    column = content.cast(kind)
    buffer = io.BytesIO()
    arrow.parquet.write_table(arrow.table({"text": column}), buffer)
    file = write(tmp_path, "a.parquet", buffer.getvalue())
    with pytest.raises(ValueError, match=r"a\.parquet: .*not UTF-8 text: byte 3 is 0xe9"):
        read(file)
    assert read(file, Reading(errors="replace")) == ["good", "caf\ufffd!", "", "fine"]
    assert read(file, Reading(errors="skip")) == ["good", "", "", "fine"]


def test_a_parquet_value_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gptlab.data.formats.parquet.MAX_RECORD", 100_000)
    assert read(write(tmp_path, "a.parquet", parquet(["x" * 100_000]))) == ["x" * 100_000]
    with pytest.raises(ValueError, match=r"a\.parquet: .*longer than 100,000 bytes"):
        read(write(tmp_path, "a.parquet", parquet(["x" * 100_001])))


def test_row_groups_are_shared_out(tmp_path: Path):
    texts = ["x" * i for i in range(100)]
    file = write(tmp_path, "a.parquet", parquet(texts, 10, compression="none"))
    assert len(formats.spans(file, 1, Reading())) == 10
    assert len(formats.spans(file, 10**6, Reading())) == 1
    assert read(file, size=1) == read(file, size=10**6) == texts


def test_a_column_that_holds_no_text(tmp_path: Path):
    file = write(tmp_path, "a.parquet", parquet(["a"]))
    with pytest.raises(ValueError, match="column 'id' holds no text but int64"):
        read(file, Reading(column="id"))


def test_packages_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = {"a.parquet": parquet(["a"]), "a.txt.zst": zst(b"abc")}
    for name, package in [("a.parquet", "pyarrow"), ("a.txt.zst", "zstandard")]:
        monkeypatch.setitem(__import__("sys").modules, package, None)
        monkeypatch.setitem(__import__("sys").modules, f"{package}.parquet", None)
        with pytest.raises(ValueError, match=rf"{name}.*{package}; install.*'gptlab\[data\]'"):
            read(write(tmp_path, name, content[name]))


def test_formats_are_the_files_of_the_folder():
    folder = Path(formats.__file__).parent
    assert formats.names() == sorted(f.stem for f in folder.glob("[a-z]*.py"))
    suffixes = [suffix for name in formats.names() for suffix in formats.find(name).suffixes]
    assert len(suffixes) == len(set(suffixes))
