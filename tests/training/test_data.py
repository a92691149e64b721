"""The images of a run: what is lowered, replaced or not used is told, one line each."""

import numpy as np

from ltjax import config as configs
from ltjax.data.sources import ArraySource
from ltjax.training.build import samplers_of
from ltjax.training.data import read_data
from tests.data.pictures import write_folder
from tests.helpers import small_config


def test_more_blocks_than_classes_are_lowered_with_a_line():
    config = configs.resolve(small_config(method="cw_la_b3rs", plan__num_blocks=11))
    data = read_data(config)
    assert data.notes == ("plan.num_blocks = 11 is lowered to 10, one for each class",)
    (sampler,) = samplers_of(config, data.train)
    assert sampler.num_blocks == 10


def test_a_batch_of_more_images_than_there_are_is_told():
    images = len(read_data(configs.resolve(small_config())).train)
    for size, told in ((images, False), (images + 1, True)):
        data = read_data(configs.resolve(small_config(train__batch_size=size)))
        line = f"train.batch_size = {size} is more than the {images} training images"
        assert data.notes == (line,) * told


def test_a_validation_part_of_its_own_and_a_damaged_image(tmp_path):
    write_folder(tmp_path / "train", {"a": 4, "b": 3}, size=(10, 10))
    write_folder(tmp_path / "val", {"a": 2, "b": 1}, size=(10, 10))
    write_folder(tmp_path / "test", {"a": 1, "b": 1}, size=(10, 10))
    (tmp_path / "train" / "a" / "2.jpg").write_bytes(b"no image")
    settings = {
        "data__name": "folder",
        "data__dir": str(tmp_path),
        "data__profile": "as_is",
        "data__image_size": 8,
        "data__skip_corrupt": True,
        "data__validation_fraction": 0.25,
        "plan__num_blocks": 2,
        "train__batch_size": 4,
    }
    data = read_data(configs.resolve(small_config(**settings)))
    assert isinstance(data.validation, ArraySource)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [7, 3, 2]
    damaged, unused = data.notes
    assert damaged.startswith("damaged, another image of its class takes its place: image ")
    assert "train/a/2.jpg" in damaged
    assert unused.startswith("data.validation_fraction is not used")
    images = data.train.images[data.train.labels == 0]
    assert np.array_equal(images[2], images[3])
