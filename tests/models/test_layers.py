import pytest
import torch
from torch import nn

from maekit.errors import ConfigError
from maekit.models.layers import (
    LAYER_NORM_EPS,
    Attention,
    Block,
    DropPath,
    LayerNorm,
    Mlp,
    init_weights,
)


def test_attention__equals_the_formula():
    attention = Attention(12, 3)
    x = torch.randn(2, 5, 12)
    q, k, v = attention.qkv(x).reshape(2, 5, 3, 3, 4).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-1, -2) / 4**0.5).softmax(-1)
    expected = attention.proj((weights @ v).transpose(1, 2).reshape(2, 5, 12))
    torch.testing.assert_close(attention(x), expected)


def test_attention__width_must_divide():
    with pytest.raises(ConfigError, match="10 does not divide into 3 heads"):
        Attention(10, 3)


def test_drop_path__keeps_the_expectation_and_is_off_in_eval():
    drop = DropPath(0.25)
    dropped = drop(torch.ones(4000, 1, 1))
    assert sorted(dropped.unique().tolist()) == [0.0, pytest.approx(4 / 3)]
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.05)
    assert torch.equal(drop.eval()(torch.ones(3, 1, 1)), torch.ones(3, 1, 1))


def test_block__is_permutation_equivariant():
    block, x = Block(12, 3, 4.0), torch.randn(2, 6, 12)
    order = torch.randperm(6)
    torch.testing.assert_close(block(x)[:, order], block(x[:, order]))


def test_init_weights__xavier_and_zero_bias():
    mlp = Mlp(64, 256).apply(init_weights)
    bound = (6 / (64 + 256)) ** 0.5
    assert float(mlp.fc1.weight.detach().abs().max()) <= bound
    assert float(mlp.fc1.weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.05)
    assert not mlp.fc1.bias.any()


def test_layer_norm__epsilon_is_the_references():
    assert LayerNorm(4).eps == LAYER_NORM_EPS == 1e-6
    assert isinstance(LayerNorm(4), nn.LayerNorm)
