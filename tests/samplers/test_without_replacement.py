"""Images for class slots: every promise holds however the classes are cut into chunks."""

import numpy as np
import pytest

from ltjax.samplers import without_replacement
from ltjax.samplers.shuffle import bit_stream, random_slots


@pytest.mark.parametrize("chunk", [1, 40, 1 << 20])
def test_chunks_of_classes_change_no_promise(monkeypatch, chunk):
    monkeypatch.setattr(without_replacement, "_CHUNK", chunk)
    sizes, draws = np.array([30, 12, 6, 6, 3, 1]), np.array([20, 12, 25, 7, 40, 0])
    slots = random_slots(bit_stream(3), draws)
    by_class = np.random.default_rng(0).permutation(sizes.sum())
    out = np.full(draws.sum(), -1)
    without_replacement.fill_images(out, bit_stream(4), slots, draws, sizes, by_class, 8)
    exposed = np.bincount(out, minlength=sizes.sum())[by_class]
    for mine, size, drawn in zip(
        np.split(exposed, np.cumsum(sizes)[:-1]), sizes, draws, strict=True
    ):
        assert mine.sum() == drawn
        assert np.ptp(mine) <= 1
        assert len(mine) == size
    owner = np.empty(sizes.sum(), int)
    owner[by_class] = np.repeat(np.arange(6), sizes)
    for row in out.reshape(-1, 8):
        held = np.bincount(owner[row], minlength=6)
        images, times = np.unique(row, return_counts=True)
        assert (held > sizes)[owner[images[times > 1]]].all()
