"""Which keys of files, folders and splits each source reads."""

from collections.abc import Mapping

from ltjax.errors import InputError, one_line

# The keys, and the value of each that means that it was not given.
NOT_GIVEN = {
    "path": "",
    "test_path": "",
    "validation_path": "",
    "dir": "",
    "train_split": "train",
    "test_split": "test",
}
# By `data.name`; a data set of TFDS, which any other name is, reads a folder and has named splits.
_READ: dict[str, tuple[str, ...]] = {
    "digits": (),
    "npz": ("path",),
    "folder": ("dir",),
    "list": ("path", "test_path", "validation_path", "dir"),
    "parquet": ("dir",),
    "features": ("path", "test_path", "validation_path"),
}
_OF_TFDS = ("dir", "train_split", "test_split")
# What takes the place of a key that a source does not read.
_INSTEAD = {
    ("npz", "test_path"): "put test_images and test_labels into the file",
    ("folder", "test_path"): "put the images into test/CLASS/ of config.data.dir",
    ("folder", "validation_path"): "put the images into validation/CLASS/ of config.data.dir",
    ("parquet", "test_path"): "put test*.parquet into config.data.dir",
    ("parquet", "validation_path"): "put validation*.parquet into config.data.dir",
}


def read_by(name: str) -> tuple[str, ...]:
    """The keys of files, folders and splits that a source reads.

    Args:
      name: `data.name`.

    Returns:
      Some of the keys of `NOT_GIVEN`.

    >>> read_by("npz"), read_by("cifar10")
    (('path',), ('dir', 'train_split', 'test_split'))
    """
    return _READ.get(name, _OF_TFDS)


def unread_by(name: str) -> dict[str, str]:
    """The keys of files, folders and splits that a source does not read.

    Args:
      name: `data.name`.

    Returns:
      The other keys of `NOT_GIVEN`, and the value of each that means that it was not given.

    >>> unread_by("list")
    {'train_split': 'train', 'test_split': 'test'}
    """
    reads = read_by(name)
    return {key: empty for key, empty in NOT_GIVEN.items() if key not in reads}


def check_places(name: str, given: Mapping[str, str]) -> None:
    """Refuses files, folders and splits that would be ignored.

    Args:
      name: `data.name`.
      given: values of keys of `NOT_GIVEN`.

    Raises:
      InputError: one that the source does not read.

    >>> check_places("npz", {"path": "a.npz", "dir": ""})
    """
    for key, empty in unread_by(name).items():
        if given.get(key, empty) in ("", empty):
            continue
        source = one_line(name, most=100)
        if name not in _READ:
            source += f", taken as a data set of TFDS, since it is none of {', '.join(_READ)}"
        raise InputError(
            f"config.data.{key} does not go with data.name = {source}; {_advice(name, key)}"
        )


def _advice(name: str, key: str) -> str:
    """What to do instead of giving a key that is not read."""
    if (name, key) in _INSTEAD:
        return _INSTEAD[name, key]
    if key == "test_path" and name not in _READ:
        return "config.data.test_split names the test split"
    if key == "validation_path":
        return "config.data.validation_fraction holds training images out"
    if key.endswith("_split"):
        return "leave it out; splits have names in data sets of TFDS"
    reads = [f"config.data.{key}" for key in read_by(name)]
    return "leave it out" + f"; the data is read from {' and '.join(reads)}" * bool(reads)
