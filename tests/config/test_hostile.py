"""Values of every type and size: they resolve, or one line names the key."""

import numpy as np
import pytest

from experiments.fuzz import configurations
from ltjax import config as configs
from ltjax.errors import InputError


class NoRepr:
    def __repr__(self):
        raise RuntimeError

    def __eq__(self, other):
        raise ValueError("The truth value of an array is ambiguous")

    __hash__ = None


WRONG = {
    "seed": [2**32, 10**30, 10**5000, -1, np.float64(1), NoRepr(), np.arange(3)],
    "data.seed": [2**32],
    "data.max_count": [10**30],
    "data.name": [3, "", "a\0b", NoRepr()],
    "data.path": ["a\0b", b"a"],
    "profile_steps": [("a", "b"), ("1", "2"), "ab", ((0,), (1,)), (0.5, 2.5), (1, 2, 3), {}],
    "seeds": [((1, 2),), (1, 1), (2**32,), tuple(range(1000)), "12", {}, [[1]]],
    "optimizer.milestones": [((160,), 180), (10**30,), ("160",)],
    "cpu_devices": [10**9, 257],
    "augment.rand_ops": [17, 10**6],
    "whitening.steps": [61, 10**6],
    "model.width": [1025, 10**9],
    "train.epochs": [10**9],
    "optimizer.learning_rate": [1e-60, 1e308, float("inf"), float("nan"), 10**400, 1j],
    "whitening.shrinkage": [1e-30, 1e-10, float("nan"), float("inf"), None],
    "method": [["ce"], {"ce": 1}, b"ce", NoRepr()],
    "model.dtype": [np.zeros(2)],
    "model.weights": ["text", "resnet50_v3"],
}


@pytest.mark.parametrize("path", WRONG)
def test_wrong_values_are_named_in_one_short_line(path):
    for value in WRONG[path]:
        for changed in ({path: value}, {"train.batch_size": 32, path: value}):
            flat = configs.Config().flat() | changed
            with pytest.raises(InputError, match=rf"config\.{path}") as caught:
                configs.resolve(flat)
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("path", ["optimizer.learning_rate", "whitening.shrinkage"])
def test_a_whole_number_becomes_the_float_of_its_key(path):
    config = configs.resolve(configs.Config().flat() | {path: 1})
    assert repr(configs.get(config, path)) == "1.0"


def test_trees_that_are_none():
    for nested in (None, 5, [], "train"):
        with pytest.raises(InputError, match="the configuration = "):
            configs.resolve(nested)
    with pytest.raises(InputError, match="a name in config"):
        configs.resolve({1: 2})
    with pytest.raises(InputError, match=r"config\.train = 5 is not allowed; use the keys of this"):
        configs.resolve({"train": 5})
    with pytest.raises(InputError, match=r"a second config\.train\.epochs"):
        configs.resolve({"train": {"epochs": 5}, "train.epochs": 7})
    deep = {"a": 1}
    for _ in range(900):
        deep = {"a": deep}
    with pytest.raises(InputError, match="not deeper"):
        configs.resolve(deep)
    assert configs.resolve({"train": {}}) == configs.resolve({})


def test_values_of_numpy_become_those_of_python():
    found = configs.resolve({"seeds": (np.int64(1), 2), "train": {"epochs": np.int32(3)}})
    assert (found.seeds, type(found.seeds[0]), type(found.train.epochs)) == ((1, 2), int, int)


def test_a_tiny_ridge_is_refused_where_the_iteration_diverges():
    from ltjax import whiten

    x = np.ones((3, 10), np.float32)
    for method, shrinkage in (("zca", 1e-30), ("newton_schulz", 1e-7)):
        with pytest.raises(InputError, match="shrinkage"):
            whiten(x, method=method, shrinkage=shrinkage)


def test_random_configurations_end_in_order():
    # The command of experiments/fuzz tries thousands.
    found = configurations.run(range(45), builds=0.5, seed=6)
    assert found["resolved"] > 5
    assert found["refused"] > 25
    assert found.get("built", 0) + found.get("not built", 0) > 0
