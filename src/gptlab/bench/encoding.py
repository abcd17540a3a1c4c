"""`gptlab bench tokenizer`: megabytes per second of encoding, beside the library by itself."""

import random
import tempfile
from pathlib import Path

from gptlab.bench.arms import Arm
from gptlab.bench.measuring import run
from gptlab.bench.preparing import Field, Peers
from gptlab.bench.protocol import Plan, Tell
from gptlab.bench.record import Record
from gptlab.data.sources.python import Python
from gptlab.tokenizer import open_encoder
from gptlab.tokenizer.bpe import BPE

LEARN_FROM = 2_000_000  # bytes


def bench_encoding(
    tokenizer: str | None,
    megabytes: float,
    peers: Peers,
    plan: Plan,
    threads: int | None,
    tell: Tell,
) -> Record:
    """Measure a tokenizer's folder, or one of 8,192 tokens made here, on text of which none recurs.

    Peers read its tokenizer.json, and must give the same ids.
    """
    peers.check()
    with tempfile.TemporaryDirectory() as place:
        field = Field(Path(place))
        if tokenizer is None:
            folder = field.folder / "tokenizer"
            BPE(vocab_size=8192).train(make_text(LEARN_FROM)).save(folder)
        else:
            folder = Path(tokenizer)
            open_encoder(tokenizer)
        documents = make_text(int(megabytes * 1e6))
        n_bytes = sum(len(document.encode()) for document in documents)
        file = field.folder / "documents"
        file.write_text("\0".join(documents), encoding="utf-8")
        job = {
            "tokenizer": str(folder.resolve()),
            "documents": str(file),
            "megabytes": n_bytes / 1e6,
        }
        field.add(Arm("gptlab", "gptlab", job))
        field.add_control()
        for name in peers.names:
            field.add(peers.arm(name, name, job))
        about = f"{n_bytes / 1e6:.1f} MB of Python in {len(documents):,} documents"
        title = f"Encoding with {folder.name if tokenizer else 'a BPE of 8,192 tokens'}"
        return run(field, "tokenize", title, about, "MB", plan, threads, tell)


def make_text(n_bytes: int) -> list[str]:
    """The standard library's source again and again, one word in twenty replaced by a made-up one.

    So no memory of earlier pieces can seem larger than it would be.
    """
    library, documents, draw = Python().documents(), [], random.Random(0)
    while n_bytes > 0:
        for document in library:
            words = document.split(" ")
            for place in range(draw.randrange(20), len(words), 20):
                words[place] = "".join(draw.choices("abcdefghij_", k=draw.randint(2, 9)))
            documents.append(" ".join(words).replace("\0", ""))
            n_bytes -= len(documents[-1].encode())
            if n_bytes <= 0:
                break
    return documents
