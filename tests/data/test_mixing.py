"""Mixtures: proportions that hold from the start, and every row of every text in its turn."""

from pathlib import Path

import numpy as np
import pytest

from gptlab.data import Data
from gptlab.data.batching import Rows
from gptlab.data.batching.epoch import Windows
from gptlab.data.mixing import PERIOD, mixed, shares_of
from gptlab.tokenizer.bpe import BPE
from gptlab.tokenizer.byte import Byte
from gptlab.tokenizer.char import Char


def texts() -> list[Rows]:
    """Three texts that can be told apart by their tokens."""
    return [Windows(1000 * i + np.arange(101), 10, seed=0) for i in range(3)]


def test_every_thousand_rows_have_their_shares():
    rows = mixed(texts(), [5, 3, 2], seed=1).take(np.arange(4 * PERIOD))
    of_text = rows.x_NT[:, 0] // 1000
    for period in of_text.reshape(4, PERIOD):
        assert np.bincount(period).tolist() == [500, 300, 200]
    assert not np.array_equal(of_text[:PERIOD], of_text[PERIOD : 2 * PERIOD])
    assert np.bincount(of_text[:100], minlength=3).min() > 8  # shuffled, not in blocks


def test_each_text_is_read_as_if_it_were_alone():
    rows = mixed(texts(), [5, 3, 2], seed=1).take(np.arange(3 * PERIOD))
    for i, alone in enumerate(texts()):
        mine = rows.x_NT[:, 0] // 1000 == i
        expected = alone.take(np.arange(mine.sum()))
        np.testing.assert_array_equal(rows.x_NT[mine], expected.x_NT)
        np.testing.assert_array_equal(rows.y_NT[mine], expected.y_NT)


def test_a_row_is_the_same_whatever_it_is_fetched_with():
    whole = mixed(texts(), [1, 1, 4], seed=2).take(np.arange(2 * PERIOD)).x_NT
    again = mixed(texts(), [1, 1, 4], seed=2)
    for row in (1999, 0, 1000, 999, 500):
        np.testing.assert_array_equal(again.take(np.array([row])).x_NT[0], whole[row])


@pytest.mark.parametrize(
    ("weights", "shares"),
    [([1, 1, 1], [334, 333, 333]), ([7], [1000]), ([1, 999], [1, 999]), ([0.5, 1.5], [250, 750])],
)
def test_shares_add_up(weights: list[float], shares: list[int]):
    assert shares_of(weights) == shares


def mixture(tmp_path: Path, **changes: object) -> Data:
    for name, text in {"a.txt": "abc " * 300, "b.txt": "xyz " * 100}.items():
        (tmp_path / name).write_text(text)
    of = [{"type": "text", "path": str(tmp_path / name)} for name in ("a.txt", "b.txt")]
    return Data.parse({"type": "mixture", "of": of} | changes)


def test_a_mixture_has_one_tokenizer_and_all_validation_texts(tmp_path: Path):
    encoder, corpus = mixture(tmp_path, weights=[1, 3]).prepare(Char())
    assert [text.weight for text in corpus.texts] == [1, 3]
    assert encoder.decode(corpus.val[:].tolist()) == "abc " * 30 + "xyz " * 10
    assert corpus.val_bytes == 40 * 4 - 1  # nothing predicts the very first
    assert encoder.decode(corpus.texts[1].tokens[:].tolist()) == "xyz " * 90
    longer = mixture(tmp_path, weights=[1, 3]).prepare(BPE(vocab_size=270))[0]
    assert longer.encode("abc abc").size < 7 > longer.encode("xyz xyz").size


def test_hashes_tell_texts_apart(tmp_path: Path):
    encoder = Byte().train([])
    first = mixture(tmp_path).tokenize(encoder).fingerprint
    assert mixture(tmp_path).tokenize(encoder).fingerprint == first
    changed = mixture(tmp_path)
    (tmp_path / "b.txt").write_text("xyw " * 100)
    assert changed.tokenize(encoder).fingerprint != first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [1]}, "`weights` has 1 for 2 texts"),
        ({"weights": [1, 1e5]}, "the least of `weights` is 0.00% of all; a text needs a 1000th"),
        ({"weights": [1, 0]}, "greater than 0"),
        ({"of": []}, "at least 1 item"),
        ({"of": [{"type": "mixture", "of": ["python"]}]}, "a mixture inside of a mixture"),
    ],
)
def test_mixtures_that_cannot_be_are_refused(tmp_path: Path, changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        mixture(tmp_path, **changes)


def test_what_is_too_short_is_named(tmp_path: Path):
    data = mixture(tmp_path)
    assert data.split_setting == "data.of.0.val_fraction=0.1, data.of.1.val_fraction=0.1"
