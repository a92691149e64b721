"""Short hashes of a data set's content, by which a resumed run knows its data again."""

import hashlib

import numpy as np

from ltjax.data.sources import EncodedSource, Source

# Images of a streamed part that are read: evenly spread, the first and the last among them.
SAMPLE = 64


def fingerprint(source: Source) -> str:
    """A short hash of a part's images, labels and class names.

    Of images in memory it is made from every pixel. Of images that are streamed it is made from
    what `EncodedSource.fingerprint` covers (which images are read, and their labels) and from the
    content of at most 64 of them, so that it costs the same for a million.

    Args:
      source: a part of a data set.

    Returns:
      16 hexadecimal digits.

    Source: ours.

    >>> from ltjax.data.sources import ArraySource
    >>> pixels, labels = np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 1])
    >>> cats = ArraySource(pixels, labels, ("cat", "dog"))
    >>> fingerprint(cats) == fingerprint(ArraySource(pixels, labels, ("dog", "cat")))
    False
    """
    digest = hashlib.sha256(repr((source.fingerprint(), source.class_names)).encode())
    if isinstance(source, EncodedSource):
        digest.update(_sample(source))
    return digest.hexdigest()[:16]


def _sample(source: EncodedSource) -> bytes:
    """Size and hash of every image of the sample, as they are stored."""
    places = np.unique(np.linspace(0, len(source) - 1, min(len(source), SAMPLE)).astype(np.int64))
    found = []
    for position in source.positions[places].tolist():
        try:
            content = source.reader.read(position)
        except (OSError, ValueError) as e:  # what is unreadable stops the run where it is needed
            found.append(type(e).__name__.encode())
            continue
        data = content.tobytes() if isinstance(content, np.ndarray) else content
        found.append(f"{len(data)} {hashlib.sha256(data).hexdigest()}".encode())
    return b"\n".join(found)


def changes(stored: dict[str, str], now: dict[str, str]) -> list[str]:
    """Names of the parts whose fingerprints differ.

    Args:
      stored: fingerprints by name.
      now: others.

    Returns:
      The names that both have with different values.

    >>> changes({"train": "1", "test": "2"}, {"train": "1", "test": "3"})
    ['test']
    """
    return [name for name in now if name in stored and stored[name] != now[name]]
