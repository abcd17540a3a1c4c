import pytest
import torch

from gptlab.parts.positions.alibi import Alibi, slopes


@pytest.mark.parametrize("n_heads", [8, 12, 16])
def test_slopes_are_transformers(n_heads: int):
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    bias_HTS = bloom.build_alibi_tensor(torch.ones(1, 5), n_heads, torch.float32)
    torch.testing.assert_close(torch.tensor(slopes(n_heads)), bias_HTS[:, 0, 1], rtol=1e-6, atol=0)


def test_slopes_of_a_power_of_two_are_a_geometric_series():
    assert slopes(8) == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    assert slopes(1) == [1 / 256]


def test_other_numbers_of_heads_take_every_other_slope_of_the_next_power():
    assert slopes(12)[:8] == slopes(8)
    assert slopes(12)[8:] == slopes(16)[:8:2]


def test_each_head_is_charged_its_slope_per_token_of_distance():
    bias = Alibi().build(48, 64).bias(8)
    assert bias is not None
    distance_TS = torch.tensor([[0, -1], [3, 0]])
    bias_HTS = bias(distance_TS)
    assert bias_HTS.shape == (8, 2, 2)
    assert bias_HTS[0].tolist() == [[0, 0.5], [-1.5, 0]]
    assert bias_HTS[7, 1, 0] == -3 / 256
