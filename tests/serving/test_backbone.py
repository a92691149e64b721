"""Features of a pretrained backbone."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.data.weights import Pretrained
from ltjax.errors import InputError
from ltjax.main import main
from ltjax.models.pretrained import PRETRAINED, Weights
from ltjax.serving import embed
from ltjax.serving.backbone import features_function, load_backbone


class Mean(nn.Module):
    """A network whose features are the mean pixel."""

    @nn.compact
    def __call__(self, x, *, train):
        return jnp.mean(x, axis=(1, 2))


def fake(name="resnet50_v2"):
    return Mean(), Pretrained(PRETRAINED[name], Weights({}, {}), Path("w.pth"), "")


@pytest.mark.parametrize("name", ["resnet50_v2", "efficientnet_lite0"])
def test_images_are_resized_and_normalized_as_the_entry_says(name):
    module, pretrained = fake(name)
    entry = pretrained.entry
    images = np.full((2, 5, 7, 3), 51, np.uint8)
    images[1] = 255
    found = jax.jit(features_function(module, pretrained, 12))(images)
    wanted = (np.array([[0.2], [1.0]]) - np.array(entry.mean)) / np.array(entry.std)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_interpolation_stays_within_the_pixels():
    images = np.zeros((1, 2, 2, 3), np.uint8)
    images[:, 0] = 255
    _, pretrained = fake("efficientnet_lite0")

    class Largest(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return jnp.max(x, axis=(1, 2))

    found = features_function(Largest(), pretrained, 16)(images)
    np.testing.assert_allclose(found, 1.0, atol=1e-6)  # (255 - 127) / 128, not more


def test_pictures_take_the_size_and_the_crop_of_the_entry(monkeypatch):
    monkeypatch.setattr(embed, "load_backbone", fake)
    found = embed.of_weights("resnet50_v2")
    assert found.shape == (224, 224, 3)
    assert found.crop == 224 / 232
    assert found.files == [Path("w.pth")]


def test_bad_input(capsys):
    with pytest.raises(InputError, match="--weights = 'resnet' is not allowed; use one of eff"):
        load_backbone("resnet")
    for words in (
        ["--mode=embed", "--workdir=x"],
        ["--mode=embed", "--checkpoint=best"],
        ["--mode=embed", "--config.a=1"],
    ):
        assert main(["ltjax", *words, "--weights=resnet50_v1"]) == 2
        assert "--weights goes with --mode=embed, without" in capsys.readouterr().err
