"""What comes of a preparation, against the same done plainly; the same bytes by any way there."""

import gzip
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gptlab.data.preparation import documents as documents_module
from gptlab.data.preparation import part, source
from gptlab.data.prepared import PreparedSet, Split
from gptlab.recipes import find_recipe
from gptlab.tokenizer import Encoder
from gptlab.tokenizer.bpe import BPE
from gptlab.tokenizer.byte import Byte
from gptlab.tokenizer.char import Char

Prepare = Callable[..., PreparedSet]


def contents(prepared: PreparedSet) -> dict[str, bytes]:
    """Every file of a set."""
    files = sorted(path for path in prepared.path.rglob("*") if path.is_file())
    return {str(path.relative_to(prepared.path)): path.read_bytes() for path in files}


def write_jsonl(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    return path


def number(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def plainly(texts: list[str], encoder: Encoder) -> tuple[list[int], list[int], list[int]]:
    """Ids of documents, each followed by end_of_text; where they start; their bytes."""
    ids: list[int] = []
    starts: list[int] = []
    for text in texts:
        starts.append(len(ids))
        start = [] if encoder.start_of_text is None else [encoder.start_of_text]
        ids += [*start, *encoder.encode(text).tolist(), encoder.end_of_text]
    return ids, starts, [len(text.encode()) for text in texts]


def assert_holds(prepared: PreparedSet, train: list[str], val: list[str]) -> None:
    expected: dict[Split, list[str]] = {"train": train, "val": val}
    for split, texts in expected.items():
        ids, starts, n_bytes = plainly(texts, prepared.encoder)
        tokens, records = prepared.tokens(split), prepared.documents(split)
        assert tokens[:].tolist() == ids
        assert records["start"].tolist() == starts
        assert records["bytes"].tolist() == n_bytes
        found = prepared.manifest.of(split)
        assert (found.tokens, found.documents, found.text_bytes) == (
            len(ids),
            len(texts),
            sum(n_bytes),
        )
        sizes = [shard.tokens for shard in found.shards]
        each = prepared.manifest.shard_size
        assert sizes == [min(each, len(ids) - i) for i in range(0, len(ids), each)]


def halves(texts: list[str], fraction: float) -> tuple[list[str], list[str]]:
    bound = int(fraction * 2**64)
    train = [text for text in texts if number(text) >= bound]
    return train, [text for text in texts if number(text) < bound]


@pytest.mark.parametrize(
    ("shard_size", "fraction"),
    [(1, 0.5), (7, 0.5), (1000, 0.05), (1000, 0.5), (10**6, 0.05), (10**6, 0.5)],
)
def test_as_if_done_plainly(
    prepare: Prepare, documents: list[str], tmp_path: Path, shard_size: int, fraction: float
):
    some = documents[:12] if shard_size < 10 else documents
    file = write_jsonl(tmp_path / "a.jsonl", some)
    train, val = halves(some, fraction)
    assert val
    prepared = prepare(file, shard_size=shard_size, val_fraction=fraction)
    assert_holds(prepared, train, val)
    prepared.verify()


def test_the_number_of_workers_makes_no_difference(
    prepare: Prepare, documents: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = write_jsonl(tmp_path / "a.jsonl", documents)
    one = prepare(file, shard_size=5000)
    monkeypatch.setattr(source, "SMALLEST", 2000)
    several = [prepare(file, shard_size=5000, workers=n) for n in (1, 2, 3)]
    assert len(source.open_source(str(file), part.Reading(), None).pieces) > 20
    for prepared in several:
        assert contents(prepared) == contents(one)


def test_blocks_and_batches_make_no_difference(
    prepare: Prepare, documents: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    texts = [*documents, "", documents[3], "long " * 700_000, documents[5]]
    file = write_jsonl(tmp_path / "a.jsonl", texts)
    one = prepare(file, dedup=True)
    monkeypatch.setattr(documents_module, "BLOCK", 7)
    monkeypatch.setattr(documents_module, "BUCKET", 50)
    monkeypatch.setattr(part, "BATCH_BYTES", 1000)
    monkeypatch.setattr("gptlab.data.preparation.assembly.AT_ONCE", 3000)
    assert contents(prepare(file, dedup=True)) == contents(one)
    assert one.manifest.left_out == {"empty": 1, "not_text": 0, "copies": 2}


@pytest.mark.parametrize("name", ["folder", "glob", "gz", "parquet", "csv"])
def test_any_way_to_write_the_source_gives_the_same_tokens(
    name: str, prepare: Prepare, documents: list[str], tmp_path: Path
):
    expected = contents(prepare(write_jsonl(tmp_path / "a.jsonl", documents)))
    folder = tmp_path / "source"
    folder.mkdir()
    given: Path | str = folder
    if name in ("folder", "glob"):
        for i, start in enumerate(range(0, len(documents), 37)):
            write_jsonl(folder / f"{i:02}.jsonl", documents[start : start + 37])
        (folder / ".hidden.jsonl").write_text("nonsense")
        (folder / "picture.png").write_bytes(b"\x89PNG\0\0")
        if name == "glob":
            (folder / "notes.txt").write_text("not among them")
            given = f"{folder}/*.jsonl"
    elif name == "gz":
        given = folder / "a.jsonl.gz"
        given.write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    elif name == "parquet":
        arrow, library = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        library.write_table(arrow.table({"text": documents}), folder / "a.parquet")
    else:
        import csv

        with (folder / "a.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["text"], *([text] for text in documents)])
    found = contents(prepare(given))
    for file in expected:
        if file != "manifest.json":
            assert found[file] == expected[file], file
    manifests = [json.loads(each["manifest.json"]) for each in (found, expected)]
    different = {key for key in manifests[0] if manifests[0][key] != manifests[1][key]}
    assert different <= {"source", "source_files", "checksum"}


def test_validation_does_not_depend_on_how_much_there_is(
    prepare: Prepare, documents: list[str], tmp_path: Path
):
    small = write_jsonl(tmp_path / "small.jsonl", documents[:100])
    large = write_jsonl(tmp_path / "large.jsonl", documents[::-1])

    def val(prepared: PreparedSet) -> set[str]:
        records, tokens = prepared.documents("val"), prepared.tokens("val")
        ends = [*records["start"][1:].tolist(), len(tokens)]
        spans = zip(records["start"].tolist(), ends, strict=True)
        return {prepared.encoder.decode(tokens[a : b - 1].tolist()) for a, b in spans}

    assert val(prepare(small)) == val(prepare(large)) & set(documents[:100])


def test_counted_validation_documents(prepare: Prepare, documents: list[str], tmp_path: Path):
    texts = [*documents, *documents[:50]]  # copies go where the first of them goes
    file = write_jsonl(tmp_path / "a.jsonl", texts)
    chosen = set(sorted(documents, key=number)[:7])
    train = [text for text in texts if text not in chosen]
    assert_holds(prepare(file, val_documents=7), train, [t for t in texts if t in chosen])


def test_copies_are_dropped_and_counted(prepare: Prepare, documents: list[str], tmp_path: Path):
    texts = [*documents, *documents[::3], documents[0], "long " * 500_000, "long " * 500_000]
    file = write_jsonl(tmp_path / "a.jsonl", texts)
    prepared = prepare(file, dedup=True)
    copies = len(texts) - len(documents) - 1
    assert prepared.manifest.left_out["copies"] == copies
    assert prepared.manifest.documents_read == len(texts)
    n_kept = prepared.manifest.train.documents + prepared.manifest.val.documents
    assert n_kept == len(documents) + 1
    file = write_jsonl(tmp_path / "b.jsonl", [*documents[29::-1], *documents[:50]])
    firsts = [*documents[29::-1], *documents[30:50]]
    assert_holds(prepare(file, dedup=True), *halves(firsts, 0.2))
    assert "copies" not in prepare(file).manifest.left_out


@pytest.mark.parametrize("limit", [1, 2, 150, 299, 300, 5000])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_limit_takes_the_first(
    limit: int,
    workers: int,
    prepare: Prepare,
    documents: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(source, "SMALLEST", 2000)
    texts = [x for pair in zip(documents, [""] * len(documents), strict=True) for x in pair]
    file = write_jsonl(tmp_path / "a.jsonl", texts)
    if limit == 1:
        with pytest.raises(ValueError, match=r"it has 1 document.*give a larger --limit-docs, and"):
            prepare(file, limit_documents=limit, val_documents=1, workers=workers)
        return
    prepared = prepare(file, limit_documents=limit, val_documents=1, workers=workers)
    chosen = min(documents[:limit], key=number)
    assert_holds(prepared, [t for t in documents[:limit] if t != chosen], [chosen])


def test_a_limit_may_end_anywhere_in_a_piece(
    prepare: Prepare, documents: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(source, "SMALLEST", 4000)
    file = write_jsonl(tmp_path / "a.jsonl", documents)
    for limit in range(100, 120):
        manifest = prepare(file, limit_documents=limit, val_documents=1).manifest
        assert manifest.train.documents == limit - 1


def test_wrong_text_is_counted(prepare: Prepare, tmp_path: Path):
    file = tmp_path / "a.txt"
    lines = [f"line {i}".encode() for i in range(40)]
    lines[7] = lines[9] = b"caf\xe9"
    lines[12] = b"x\0y"
    lines[20] = b""
    file.write_bytes(b"\n".join(lines))
    with pytest.raises(ValueError, match=r"a\.txt: not UTF-8 text: byte 52 is 0xe9"):
        prepare(file, separator="\n")
    replaced = prepare(file, separator="\n", errors="replace").manifest
    assert (replaced.not_text, replaced.left_out) == (3, {"empty": 1, "not_text": 0})
    skipped = prepare(file, separator="\n", errors="skip").manifest
    assert (skipped.not_text, skipped.left_out) == (3, {"empty": 1, "not_text": 3})
    assert replaced.documents_read == skipped.documents_read == 40


def test_a_long_document_with_a_wrong_byte_is_left_out_whole(
    prepare: Prepare, documents: list[str], tmp_path: Path
):
    for i, text in enumerate(documents[:20]):
        (tmp_path / f"{i:03}.txt").write_text(text, "utf-8", newline="")
    (tmp_path / "999.txt").write_bytes(b"word " * 500_000 + b"\xff" + b"word " * 500_000)
    prepared = prepare(tmp_path / "*.txt", errors="skip", val_documents=1)
    assert prepared.manifest.left_out == {"empty": 0, "not_text": 1}
    chosen = min(documents[:20], key=number)
    assert_holds(prepared, [t for t in documents[:20] if t != chosen], [chosen])


@pytest.mark.parametrize(
    "tokenizer", [Byte(), Char(), BPE(vocab_size=300)], ids=lambda t: t.variant
)
def test_a_lone_text_gives_its_end_for_validation(tokenizer: Any, prepare: Prepare, tmp_path: Path):
    text = "ROMEO: what light,\nnaïve\n\n" * 400
    file = tmp_path / "input.txt"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    tokenizer.train([text]).save(tmp_path / "tok")
    prepared = prepare(file, tokenizer=str(tmp_path / "tok"), val_fraction=0.1)
    ending = "\n\n" if prepared.encoder.end_of_text is None else ""
    train, val = (prepared.encoder.decode(prepared.tokens(s)[:].tolist()) for s in ("train", "val"))
    assert train.removesuffix(ending) + val.removesuffix(ending) == text
    assert 0 <= len(train.encode()) - 0.9 * len(text.encode()) < 30
    assert prepared.manifest.val.text_bytes == len(val.removesuffix(ending).encode())


def test_large_vocabularies_take_32_bits(prepare: Prepare, tmp_path: Path):
    letters = "".join(map(chr, range(0x10000, 0x10000 + 2**16)))
    Char().train([letters + "\n"]).save(tmp_path / "tok")
    (tmp_path / "a.txt").write_text(letters, "utf-8")
    prepared = prepare(tmp_path / "a.txt", tokenizer=str(tmp_path / "tok"))
    assert prepared.manifest.dtype == "uint32"
    assert prepared.tokens("val").dtype == np.uint32
    assert int(prepared.tokens("val")[-3:].max()) == 2**16


def test_special_spellings_are_text(prepare: Prepare, tmp_path: Path, documents: list[str]):
    file = write_jsonl(tmp_path / "a.jsonl", [f"{i} <|endoftext|> {i}" for i in range(30)])
    prepared = prepare(file)
    tokens = np.concatenate([prepared.tokens("train")[:], prepared.tokens("val")[:]])
    assert (tokens == prepared.encoder.end_of_text).sum() == 30


def test_manifests_are_known_by_what_they_say(
    prepare: Prepare, documents: list[str], tmp_path: Path
):
    file = write_jsonl(tmp_path / "a.jsonl", documents)
    manifest = prepare(file).manifest
    digests = b"".join(
        np.frombuffer(sha256(text.encode()).digest()[:16], ">u8").astype("<u8").tobytes()
        for text in documents
    )
    assert manifest.source_sha256 == sha256(digests).hexdigest()
    assert manifest.source == str(file)
    assert manifest.documents_read == len(documents)


def test_the_estimate_is_close(prepare: Prepare, documents: list[str], tmp_path: Path):
    texts = documents * 40
    for file in (
        write_jsonl(tmp_path / "a.jsonl", texts),
        tmp_path / "a.jsonl.gz",
        tmp_path / "b.txt",
    ):
        if file.suffix == ".gz":
            file.write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
        if file.suffix == ".txt":
            file.write_text("\n---\n".join(texts), "utf-8", newline="")
        prepared = prepare(file, separator="\n---\n")
        wanted = prepare.listener.wanted  # pyright: ignore[reportFunctionMemberAccess]
        manifest = prepared.manifest
        n_bytes = manifest.train.text_bytes + manifest.val.text_bytes
        assert wanted.text_bytes == pytest.approx(n_bytes, rel=0.3)
        assert wanted.tokens == pytest.approx(manifest.train.tokens + manifest.val.tokens, rel=0.3)
        assert wanted.documents == pytest.approx(len(texts), rel=0.3)


def test_an_unfit_disk_is_refused(
    prepare: Prepare, documents: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from types import SimpleNamespace

    file = write_jsonl(tmp_path / "a.jsonl", documents * 10)
    monkeypatch.setattr(
        "gptlab.data.preparation.estimate.shutil.disk_usage", lambda path: SimpleNamespace(free=99)
    )
    with pytest.raises(ValueError, match=r"--out=.*GB are needed.*GB are free"):
        prepare(file, out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_tokenizer_from_elsewhere(prepare: Prepare, tmp_path: Path, documents: list[str]):
    """One that puts a token before every text; where it came from may be gone afterwards."""
    BPE(vocab_size=300, special=("<s>",)).train(documents).save(tmp_path / "ours")
    tree = json.loads((tmp_path / "ours" / "tokenizer.json").read_text("utf-8"))
    first = tree["added_tokens"][1]["id"]
    tree["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [first], "tokens": ["<s>"]}},
    }
    there = tmp_path / "there"
    there.mkdir()
    (there / "tokenizer.json").write_text(json.dumps(tree), "utf-8")
    (there / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    file = write_jsonl(tmp_path / "a.jsonl", documents)
    prepared = prepare(file, tokenizer=str(there))
    (there / "tokenizer.json").unlink()
    prepared = PreparedSet.open(prepared.path)
    assert prepared.encoder.start_of_text == first
    assert prepared.manifest.tokenizer["type"] == "pretrained"
    assert_holds(prepared, *halves(documents, 0.2))
    recipe = find_recipe("shakespeare").override([f"data.path={prepared.path}"])
    assert recipe.resolved().model.vocab_size == prepared.encoder.vocab_size
    encoder, corpus = recipe.data.prepare(recipe.tokenizer)
    assert encoder.fingerprint() == prepared.manifest.tokenizer_sha256
    assert corpus.val[:1][0] == first


def test_special_tokens_are_read_on_request(prepare: Prepare, tmp_path: Path, tok: Path):
    texts = [f"{i} <|endoftext|> <|user|>{i}" for i in range(30)]
    file = write_jsonl(tmp_path / "a.jsonl", texts)
    BPE(vocab_size=300, special=("<|user|>",)).train(texts).save(tmp_path / "tok2")
    prepared = prepare(file, special_tokens=True, tokenizer=str(tmp_path / "tok2"))
    tokens = np.concatenate([prepared.tokens("train")[:], prepared.tokens("val")[:]])
    counts = [int((tokens == id).sum()) for id in prepared.encoder.special.values()]
    assert counts == [60, 30]
    assert prepared.manifest.special_tokens
    Char().train(texts).save(tmp_path / "characters")
    with pytest.raises(ValueError, match=r"--special-tokens: .* has no special tokens"):
        prepare(file, special_tokens=True, tokenizer=str(tmp_path / "characters"))


def test_a_character_that_cannot_be_encoded_names_the_file(prepare: Prepare, tmp_path: Path):
    Char().train(["abc\n"]).save(tmp_path / "tok2")
    for name, text in {"1": "abc", "2": "abd", "3": "cba"}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    with pytest.raises(ValueError, match=r"2\.txt: .*character 'd' at position 2"):
        prepare(f"{tmp_path}/*.txt", tokenizer=str(tmp_path / "tok2"))


def test_without_documents_nothing_is_left(prepare: Prepare, tmp_path: Path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": ""}\n' * 3, "utf-8")
    with pytest.raises(ValueError, match=r"a\.jsonl: it has no document that is text"):
        prepare(file, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_packed_text_is_one_document(prepare: Prepare, tmp_path: Path):
    file = tmp_path / "a.txt.gz"
    file.write_bytes(gzip.compress(b"some text\n" * 100))
    with pytest.raises(
        ValueError, match=r"it has 1 document.*--separator, unpack it.*remove .*out"
    ):
        prepare(file, out=tmp_path / "out")
