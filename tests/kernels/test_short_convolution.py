"""The short convolution against torch's grouped one, and texts of a row against rows."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad

from gptlab.kernels.short_convolution import short_convolution

B, T, C = 2, 9, 5


def draw(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(shape[0])
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def no_past(width: int) -> Tensor:
    return torch.zeros(B, width - 1, C, dtype=torch.float64)


@pytest.mark.parametrize("width", [1, 4, T + 3])
def test_it_is_torchs(width: int):
    x_BTC, weight_WC = draw(B, T, C), draw(width, C)
    expected_BCT = conv1d(pad(x_BTC.mT, (width - 1, 0)), weight_WC.mT[:, None], groups=C)
    y_BTC, _ = short_convolution(x_BTC, weight_WC, no_past(width), None)
    torch.testing.assert_close(y_BTC, expected_BCT.mT)
    late_BTC, _ = short_convolution(x_BTC, weight_WC.roll(1, dims=0), no_past(width), None)
    assert width == 1 or (late_BTC - expected_BCT.mT).abs().max() > 0.1


@pytest.mark.parametrize("width", [1, 4, T + 3])
def test_texts_do_not_mix_whatever_the_pieces(width: int):
    """Texts of 2, 1 and 6 tokens; in the second row of 1 and 8."""
    x_BTC, weight_WC = draw(B, T, C), draw(width, C)
    starts = [[0, 2, 3, T], [0, 1, T]]
    numbers_BT = torch.tensor([[0, 0, 1, 2, 2, 2, 2, 2, 2], [0, 1, 1, 1, 1, 1, 1, 1, 1]])
    expected_BTC = torch.cat(
        [
            torch.cat(
                [
                    short_convolution(x_BTC[b, None, i:j], weight_WC, no_past(width)[:1], None)[0]
                    for i, j in zip(starts[b], starts[b][1:], strict=False)
                ],
                dim=1,
            )
            for b in range(B)
        ]
    )
    for pieces in ([9], [1] * 9, [2, 1, 6], [3, 4, 2]):
        past, read, seen = no_past(width), 0, []
        for length in pieces:
            piece = slice(read, read + length)
            before_B1 = numbers_BT[:, max(read - 1, 0), None]
            y_BTC, past = short_convolution(
                x_BTC[:, piece], weight_WC, past, numbers_BT[:, piece] - before_B1
            )
            seen.append(y_BTC)
            read += length
        torch.testing.assert_close(torch.cat(seen, dim=1), expected_BTC)
