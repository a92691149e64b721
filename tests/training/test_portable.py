"""A stored classifier that somebody, or a disk, has changed."""

import json
import os

import numpy as np
import pytest

from ltjax import LongTailClassifier
from ltjax.errors import InputError


@pytest.fixture(scope="module")
def fitted():
    X = np.random.default_rng(0).normal(size=(60, 3))
    return LongTailClassifier("lda", random_state=0).fit(X, np.arange(60) % 3)


def _rewritten(change):
    def damage(folder):
        facts = json.loads((folder / "classifier.json").read_text())
        change(facts)
        (folder / "classifier.json").write_text(json.dumps(facts))

    return damage


def _flipped(name, share):
    def damage(folder):
        content = bytearray((folder / name).read_bytes())
        content[int(share * len(content))] ^= 4
        (folder / name).write_bytes(content)

    return damage


def _pipe(name):
    def damage(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


DAMAGED = {
    "absent": lambda folder: (folder / "classifier.json").unlink(),
    "no tensors": lambda folder: (folder / "arrays.safetensors").write_bytes(b"\0" * 20),
    "a number": lambda folder: (folder / "classifier.json").write_text("5"),
    "brackets": lambda folder: (folder / "classifier.json").write_text("[" * 100_000),
    "a pipe": _pipe("classifier.json"),
    "another pipe": _pipe("arrays.safetensors"),
    "a key": _rewritten(lambda facts: facts.pop("candidate")),
    "a class": _rewritten(lambda facts: facts["classes"][1].pop()),
    "a parameter": _rewritten(lambda facts: facts["parameters"].update(tau=0.5)),
    "no hash": _rewritten(lambda facts: facts.pop("sha256")),
    **{f"arrays, {share}": _flipped("arrays.safetensors", share) for share in (0.05, 0.6, 0.99)},
    **{f"facts, {share}": _flipped("classifier.json", share) for share in (0.1, 0.5, 0.9)},
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_classifier_is_refused(tmp_path, fitted, what):
    fitted.save(tmp_path)
    LongTailClassifier.load(tmp_path)
    DAMAGED[what](tmp_path)
    with pytest.raises(InputError, match="holds no classifier that can be read") as caught:
        LongTailClassifier.load(tmp_path)
    assert "\n" not in str(caught.value)
