import math

import pytest
import torch

from gptlab.kernels.places import Places
from gptlab.parts.context import Context
from gptlab.parts.positions.sinusoidal import Sinusoidal

D = 12


@pytest.mark.parametrize("base", [100.0, 10_000.0])
def test_positions_are_the_formula(base: float):
    positions_T = torch.tensor([0, 1, 5, 40])
    scheme = Sinusoidal(base=base, scale=False).build(D, 64)
    table_TD = scheme.embed(torch.zeros(1, 4, D), Context(Places(positions_T[None])))[0]
    for row_D, t in zip(table_TD, positions_T.tolist(), strict=True):
        angles = [t / base ** (2 * (d // 2) / D) for d in range(D)]
        expected = [math.cos(a) if d % 2 else math.sin(a) for d, a in enumerate(angles)]
        torch.testing.assert_close(row_D, torch.tensor(expected), rtol=0, atol=3e-6)


def test_embeddings_are_scaled_by_the_root_of_the_width():
    x_BTD, context = torch.ones(1, 2, D), Context(Places.counted(0, 2))
    plain = Sinusoidal(scale=False).build(D, 64).embed(x_BTD, context)
    scaled = Sinusoidal(scale=True).build(D, 64).embed(x_BTD, context)
    torch.testing.assert_close(scaled - plain, x_BTD * (math.sqrt(D) - 1))


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match=r"model\.d_model=13 must be even"):
        Sinusoidal().build(13, 64)
