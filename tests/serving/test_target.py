"""The class distribution that `--target_prior` names."""

import json

import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.serving.target import read_prior

NAMES, COUNTS = ["cat", "dog"], np.array([90, 10])


def test_every_way_to_name_one(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps({"dog": 3, "cat": 1}))
    texts = ("uniform", "train", "0.5,0.1", str(tmp_path / "p.json"))
    found = [read_prior(text, NAMES, COUNTS).tolist() for text in texts]
    assert found == [[1.0, 1.0], [90.0, 10.0], [0.5, 0.1], [1.0, 3.0]]


@pytest.mark.parametrize("text", ["test", "1", "1,2,3", "1,-1", "0,0", "1,x", "[1],2", "1e999,1"])
def test_others_are_refused(text):
    with pytest.raises(InputError, match=r"--target_prior = .* use uniform, train, 2 numbers"):
        read_prior(text, NAMES, COUNTS)


def test_names_must_be_those_of_the_classes(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"dog": 3}))
    with pytest.raises(InputError, match="lacks class 'cat'"):
        read_prior(str(path), NAMES, COUNTS)
    path.write_text(json.dumps({"dog": 3, "cat": 1, "cow": 1}))
    with pytest.raises(InputError, match="has 'cow', no class"):
        read_prior(str(path), NAMES, COUNTS)
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_prior(str(tmp_path / "none.json"), NAMES, COUNTS)
