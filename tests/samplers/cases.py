"""Label sets and samplers of every kind, for the tests of samplers."""

import hypothesis.strategies as st
import numpy as np

from ltjax.samplers.b3rs import B3RS, PARTITIONS
from ltjax.samplers.baselines import (
    ClassAwareSampler,
    PowerSampler,
    ProgressiveSampler,
    RepeatFactorSampler,
)


@st.composite
def label_sets(draw, smallest=0):
    """Shuffled labels of one to eight classes; classes may be empty unless told otherwise."""
    counts = draw(st.lists(st.integers(smallest, 25), min_size=1, max_size=8).filter(any))
    seed = draw(st.integers(0, 9))
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(labels)


@st.composite
def b3rs_samplers(draw):
    """B3RS over all its parameters."""
    labels = draw(label_sets())
    classes = len(np.unique(labels))
    blocks = draw(st.integers(1, classes))
    return B3RS(
        labels,
        draw(st.integers(blocks, 24)),
        num_blocks=blocks,
        balance=draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])),
        partition=draw(st.sampled_from(PARTITIONS)),
        seed=draw(st.integers(0, 5)),
    )


@st.composite
def samplers(draw):
    """A sampler of any kind that draws classes."""
    kind = draw(st.sampled_from(["power", "progressive", "repeat", "aware", "b3rs"]))
    if kind == "b3rs":
        return draw(b3rs_samplers())
    labels, batch = draw(label_sets()), draw(st.integers(1, 24))
    seed = draw(st.integers(0, 5))
    if kind == "power":
        power = draw(st.sampled_from([1.0, 0.5, 0.0, -1.0]))
        return PowerSampler(labels, batch, power=power, seed=seed)
    if kind == "progressive":
        return ProgressiveSampler(labels, batch, epochs=draw(st.integers(1, 4)), seed=seed)
    if kind == "repeat":
        threshold = draw(st.sampled_from([0.01, 0.2, 1.0]))
        return RepeatFactorSampler(labels, batch, threshold=threshold, seed=seed)
    each = draw(st.integers(1, batch))
    return ClassAwareSampler(labels, batch, images_per_class=each, seed=seed)
