"""What `gptlab tokenizer` prints and draws."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from gptlab.show import pieces, tokenizer_report, tokenizer_training
from gptlab.tokenizer import Encoder, open_encoder
from gptlab.tokenizer.bpe import BPE
from gptlab.tokenizer.byte import Byte

TEXT = "def forward(self, x):\n\treturn self.norm(x)  # naïve 東京\n" * 20


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "input.txt").write_text(TEXT, encoding="utf-8")
    BPE(vocab_size=300).train([TEXT]).save(tmp_path / "tok")
    return tmp_path


def encoder() -> Encoder:
    return BPE(vocab_size=300, special=("<|im_end|>",)).train([TEXT])


def test_elsewhere_than_in_a_terminal_a_token_is_a_line(capsys: pytest.CaptureFixture[str]):
    text = "def x\n東é<|im_end|>"
    pieces.show_pieces(encoder(), text, allow_special=True)
    lines = capsys.readouterr().out.splitlines()
    ids = [int(line.split()[0]) for line in lines]
    assert ids == encoder().encode(text, allow_special=True).tolist()
    shown = [line[9:] for line in lines]
    assert shown[-1] == "<|im_end|>"
    assert "'\\n'" in shown
    assert shown[0] == "'def'"
    content = b"".join(eval_bytes(piece) for piece in shown[:-1])
    assert content.decode() + shown[-1] == text


def eval_bytes(piece: str) -> bytes:
    """Read what was quoted."""
    if piece.startswith("b'"):
        return piece[2:-1].encode().decode("unicode_escape").encode("latin-1")
    return piece[1:-1].replace("\\n", "\n").encode()


def test_in_a_terminal_pieces_stand_above_their_ids():
    encoded = encoder().encode("def forward(self) 東<|im_end|>", allow_special=True).tolist()
    console = Console(width=30, force_terminal=True, color_system="truecolor", highlight=False)
    rows = list(pieces.rows(encoder(), encoded, 30))
    assert len(rows) >= 4
    numbers = [int(word) for row in rows[1::2] for word in row.plain.split()]
    assert numbers == encoded
    for above, below in zip(rows[::2], rows[1::2], strict=True):
        assert above.cell_len <= 31
        styled = [(span.start, above.plain[span.start : span.end]) for span in above.spans]
        for start, piece in styled:
            number = below.plain[start:].split()[0]
            assert below.plain[start] != " "
            assert piece == pieces.label(encoder(), int(number))
    with console.capture() as capture:
        for row in rows:
            console.print(row)
    assert "\x1b[" in capture.get()
    assert list(pieces.rows(encoder(), [], 30)) == []


def test_a_report_has_a_table_and_a_picture(folder: Path, capsys: pytest.CaptureFixture[str]):
    tokenizer_report.report(["tok", "byte"], "input.txt", 10**6, None)
    out, err = capsys.readouterr()
    assert f"input.txt: {len(TEXT.encode()):,} bytes in 1 documents" in out
    (line,) = [line for line in out.splitlines() if line.startswith("bytes per token")]
    ids = BPE(vocab_size=300).train([TEXT]).encode(TEXT)
    assert line.split()[-2:] == [f"{len(TEXT.encode()) / len(ids):.3f}", "1.000"]
    assert "tok: the longest tokens that occur" in out
    assert "byte: the longest" not in out  # all are as long
    assert "tokenizer-report.png" in err
    assert (folder / "tokenizer-report.png").read_bytes().startswith(b"\x89PNG")


def test_for_machines_it_is_one_document(folder: Path, capsys: pytest.CaptureFixture[str]):
    tokenizer_report.report(["tok", "byte"], "input.txt", 100, None, json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["source"], found["bytes"], found["documents"]) == ("input.txt", 100, 1)
    assert list(found["tokenizers"]) == ["tok", "byte"]
    assert found["tokenizers"]["byte"]["tokens"] == 100
    assert not list(folder.glob("*.png"))
    tokenizer_report.report(["byte"], "input.txt", 100, folder / "new" / "x.svg", json=True)
    assert "<svg" in (folder / "new" / "x.svg").read_text(encoding="utf-8")


def test_a_picture_of_no_format_is_told_before_anything_is_read():
    with pytest.raises(ValueError, match=r"--plot x\.foo: a picture's suffix is one of \..*\.png"):
        tokenizer_report.report(["nowhere"], "nowhere", 100, Path("x.foo"))


def test_a_tokenizer_that_cannot_read_the_text_is_named(folder: Path):
    from gptlab.tokenizer.char import Char

    Char().train(["def"]).save(folder / "few")
    with pytest.raises(ValueError, match=r"few: character ' ' at position 3: .* never seen"):
        tokenizer_report.report(["byte", "few"], "input.txt", 100, None)


def test_training_shows_how_far_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch):
    shown = StringIO()
    terminal = Console(file=shown, force_terminal=True, width=80, highlight=False, markup=False)
    monkeypatch.setattr(tokenizer_training, "Console", lambda **_: terminal)
    tokenizer_training.train(BPE(vocab_size=300), "input.txt", folder / "new", None, None)
    text = shown.getvalue()
    assert 0 <= text.find("counting words") < text.find("learning tokens") < text.find("bpe: ")
    sha256 = open_encoder(folder / "new").fingerprint()
    assert f"sha256 {sha256}" in text


def test_every_token_has_a_label():
    for made in (encoder(), Byte().train([])):
        labels = [pieces.label(made, id) for id in range(made.vocab_size)]
        assert all(label and label.isprintable() for label in labels)
        assert len({pieces.label(made, id, quoted=True) for id in range(made.vocab_size)}) == len(
            labels
        )
