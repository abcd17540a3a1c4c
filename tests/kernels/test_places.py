"""Places: who sees whom, spelt out token by token."""

import pytest
import torch
from torch import Tensor

from gptlab.kernels.attention import BAND, attend, visible_keys
from gptlab.kernels.places import Places, visible

DOCUMENTS = [[7, 7, 7, 3, 3, 9], [5, 5, 5, 5, 5, 5], [1, 2, 2, 2, 2, 1]]


def seen(positions: list[int], documents: list[int], window: int | None, chunk: int | None):
    """Whether token t sees token s, by the words of the contract."""

    def sees(t: int, s: int) -> bool:
        p, q = positions[t], positions[s]
        if documents[t] != documents[s] or q > p:
            return False
        if window is not None and q not in range(p - window + 1, p + 1):
            return False
        return chunk is None or p // chunk == q // chunk

    T = range(len(positions))
    return torch.tensor([[sees(t, s) for s in T] for t in T])


def test_documents_count_from_their_own_start():
    places = Places.packed(torch.tensor(DOCUMENTS))
    assert places.positions_BT.tolist() == [
        [0, 1, 2, 0, 1, 0],
        [0, 1, 2, 3, 4, 5],
        [0, 0, 1, 2, 3, 0],
    ]


@pytest.mark.parametrize(("window", "chunk"), [(None, None), (2, None), (None, 2), (3, None)])
def test_visible_is_what_the_words_say(window: int | None, chunk: int | None):
    places = Places.packed(torch.tensor(DOCUMENTS))
    seen_BTS = visible(places, places, window, chunk)
    for row, documents in enumerate(DOCUMENTS):
        positions = places.positions_BT[row].tolist()
        assert torch.equal(seen_BTS[row], seen(positions, documents, window, chunk))


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize(
    ("window", "chunk"), [(None, None), (5, None), (150, None), (None, 5), (None, 150)]
)
@pytest.mark.parametrize("T", [9, BAND, 2 * BAND + 37])
def test_attention_keeps_to_documents(T: int, window: int | None, chunk: int | None, reset: bool):
    """Two rows, packed differently; also where positions go on from document to document."""
    q, k, v = (torch.randn(2, 2, T, 4, dtype=torch.float64).requires_grad_() for _ in range(3))
    documents_BT = (torch.arange(T) // torch.tensor([[7], [T // 2 + 1]])) * 3
    places = Places.packed(documents_BT)
    if not reset:
        places = Places(torch.arange(T)[None], documents_BT)
    y = attend(q, k, v, queries=places, keys=None, window=window, chunk=chunk)
    rows = [
        seen(positions, documents, window, chunk)
        for positions, documents in zip(
            places.positions_BT.expand(2, T).tolist(), documents_BT.tolist(), strict=True
        )
    ]
    expected = plainly(q, k, v, torch.stack(rows))
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    gradients = torch.autograd.grad(y.sin().sum(), (q, k, v))
    expected_gradients = torch.autograd.grad(expected.sin().sum(), (q, k, v))
    torch.testing.assert_close(gradients, expected_gradients, rtol=0, atol=1e-11)
    leaky = plainly(q, k, v, torch.stack(rows) | torch.eye(T, dtype=torch.bool).roll(-1, 1).tril())
    assert (y - leaky).abs().max() > 0.01


def plainly(q: Tensor, k: Tensor, v: Tensor, seen_BTS: Tensor) -> Tensor:
    scores = (q @ k.mT / 2).masked_fill(~seen_BTS[:, None], -torch.inf)
    return scores.softmax(-1) @ v


@pytest.mark.parametrize("chunk", [1, 3, 8, 100])
@pytest.mark.parametrize("T", [1, 8, 20])
def test_visible_keys_counts_chunks(T: int, chunk: int):
    places = Places.counted(0, T)
    n_seen = visible(places, places, chunk=chunk).sum().item()
    assert visible_keys(T, None, chunk) == pytest.approx(n_seen / T)
