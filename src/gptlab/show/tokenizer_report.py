"""`gptlab tokenizer report`: tokenizers measured on one text, as a table and a picture."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Any

from gptlab.data.vocabulary import read_source
from gptlab.evaluate.tokens import TokenFacts, count_tokens
from gptlab.show._print import print_table
from gptlab.show._tokenizer_plot import check_plot, save_plot
from gptlab.tokenizer import open_encoder

PLOT = Path("tokenizer-report.png")
WIDE = 40  # characters of a token in a list; of a longer one its length is told
ROWS = {
    "vocabulary": "{vocab_size:,}",
    "special tokens": "{special:,}",
    "tokens of the text": "{tokens:,}",
    "bytes per token": "{bytes_per_token:.3f}",
    "characters per token": "{characters_per_token:.3f}",
    "tokens per word": "{tokens_per_word:.3f}",
    "ordinary tokens that occur": "{used:,}",
    "  of all": "{use:.1%}",
    "entropy, bits per token": "{entropy:.3f}",
    "  of the most there could be": "{evenness:.1%}",
    "bits per byte by frequency alone": "{order_0_bits_per_byte:.3f}",
    "encoding, MB/s": "{megabytes_per_second:.1f}",
}


def report(
    names: Sequence[str], source: str, limit: int, plot: Path | None, json: bool = False
) -> None:
    """Measure tokenizers on the first `limit` bytes of a source; print and draw what was found.

    With `json` a picture is drawn only where `plot` says.
    """
    if plot:
        check_plot(plot)
    encoders = {name: open_encoder(name) for name in names}
    documents = read_source(source, limit)
    facts: dict[str, TokenFacts] = {}
    for name, encoder in encoders.items():
        try:
            facts[name] = count_tokens(encoder, documents)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    n_bytes = sum(len(document.encode("utf-8")) for document in documents)
    if json:
        found = {name: _plain(fact) for name, fact in facts.items()}
        about = {"source": source, "bytes": n_bytes, "documents": len(documents)}
        print(dumps(about | {"tokenizers": found}, indent=2, ensure_ascii=False))
    else:
        _print(facts, f"{source}: {n_bytes:,} bytes in {len(documents):,} documents")
        plot = plot or PLOT
    if plot:
        save_plot(facts, source, plot)
        print(f"the picture is in {plot}", file=sys.stderr)


def _print(facts: dict[str, TokenFacts], title: str) -> None:
    columns = [asdict(fact) for fact in facts.values()]
    rows = [[name, *(form.format(**column) for column in columns)] for name, form in ROWS.items()]
    print_table(title, ["", *facts], rows)
    for name, fact in facts.items():
        for what, tokens in (("occur", fact.longest), ("do not", fact.unused)):
            words = [_short(readable(token)) for token in tokens if len(token) > 1]
            if words:
                print(f"{name}: the longest tokens that {what}\n  {'  '.join(words)}\n")


def _short(text: str) -> str:
    return text if len(text) <= WIDE else f"{text[: WIDE - 9]}...({len(text) - 2})"


def readable(content: bytes) -> str:
    """Write bytes down in quotes, as text if they are."""
    try:
        return repr(content.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(content)


def _plain(fact: TokenFacts) -> dict[str, Any]:
    tree = asdict(fact)
    del tree["counts"]
    return tree | {name: [readable(x) for x in tree[name]] for name in ("longest", "unused")}
