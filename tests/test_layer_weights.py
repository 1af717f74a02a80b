import pytest

from allaprima.errors import InputError
from allaprima.layer_weights import (
    correlation_chain,
    difference_chain,
    geometric_weights,
    per_picture,
    rescaled,
    split_pair,
)

LAYERS = [f"relu{b}_{i}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)]


def test_geometric_weights_of_the_article():
    """2^-(12 − (i + 1)) of the first twelve layers of thirteen."""
    weights = geometric_weights(LAYERS, ratio=2, last=2)
    assert list(weights) == LAYERS
    assert list(weights.values())[:-1] == [2.0 ** -(12 - (i + 1)) for i in range(12)]


def test_geometric_weights_of_the_paper():
    """2^(D − d) of depth d = 1 … D."""
    weights = geometric_weights(LAYERS, ratio=0.5)
    assert list(weights.values()) == [2.0 ** (13 - depth) for depth in range(1, 14)]


def test_chains_by_hand():
    weights = {"relu1_1": 1.0, "relu1_2": 2.0, "relu2_1": 4.0}
    assert correlation_chain(weights) == {"relu1_2*relu1_1": 2.0, "relu2_1*relu1_2": 4.0}
    # 1 (E1 − E2) + 2 (E2 − E3)
    assert difference_chain(weights) == {"relu1_1": 1.0, "relu1_2": 1.0, "relu2_1": -2.0}


def test_per_picture_by_hand():
    weights = {"relu1_2": 1.0, "conv2_1": 1.0, "pool3": 1.0}
    assert per_picture(weights) == {"relu1_2": 1, "conv2_1": 1 / 16, "pool3": 1 / 256}


def test_rescaled_by_hand():
    assert rescaled({"relu1_1": 8.0}, {"relu1_1": 2.0}, 4) == {"relu1_1": 0.5}


def test_split_pair():
    assert split_pair("relu2_1*relu1_2") == ["relu2_1", "relu1_2"]
    assert split_pair("relu2_1") == ["relu2_1"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: geometric_weights([]),
        lambda: geometric_weights(LAYERS, ratio=0),
        lambda: geometric_weights(LAYERS, last=-1),
        lambda: correlation_chain({"relu1_1": 1.0}),
        lambda: difference_chain({}),
        lambda: rescaled({"relu1_1": 1.0}, {"relu2_1": 3.0}, 2),
    ],
)
def test_what_makes_no_weights(wrong):
    with pytest.raises(InputError):
        wrong()
