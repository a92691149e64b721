"""Which keys of files and folders each source reads."""

from collections.abc import Mapping

from ltjax.errors import InputError, one_line

PLACES = ("path", "test_path", "validation_path", "dir")
# By `data.name`; a data set of TFDS, which any other name is, reads a folder.
_READ = {
    "digits": (),
    "npz": ("path",),
    "folder": ("dir",),
    "list": PLACES,
    "parquet": ("dir",),
    "features": ("path", "test_path", "validation_path"),
}
# What takes the place of a key that a source does not read.
_INSTEAD = {
    ("npz", "test_path"): "put test_images and test_labels into the file",
    ("folder", "test_path"): "put the images into test/CLASS/ of config.data.dir",
    ("folder", "validation_path"): "put the images into validation/CLASS/ of config.data.dir",
    ("parquet", "test_path"): "put test*.parquet into config.data.dir",
    ("parquet", "validation_path"): "put validation*.parquet into config.data.dir",
}


def read_by(name: str) -> tuple[str, ...]:
    """The keys of files and folders that a source reads.

    Args:
      name: `data.name`.

    Returns:
      Some of `PLACES`.

    >>> read_by("npz"), read_by("cifar10")
    (('path',), ('dir',))
    """
    return _READ.get(name, ("dir",))


def unread_by(name: str) -> tuple[str, ...]:
    """The keys of files and folders that a source does not read.

    Args:
      name: `data.name`.

    Returns:
      The others of `PLACES`.

    >>> unread_by("list"), unread_by("features")
    ((), ('dir',))
    """
    reads = read_by(name)
    return tuple(key for key in PLACES if key not in reads)


def check_places(name: str, given: Mapping[str, str]) -> None:
    """Refuses files and folders that would be ignored.

    Args:
      name: `data.name`.
      given: values of `PLACES`; an empty one is not given.

    Raises:
      InputError: one that the source does not read.

    >>> check_places("npz", {"path": "a.npz", "dir": ""})
    """
    reads = read_by(name)
    for key in unread_by(name):
        if not given.get(key):
            continue
        source = one_line(name, most=100)
        if name not in _READ:
            source += f", taken as a data set of TFDS, since it is none of {', '.join(_READ)}"
        default = "leave it out"
        if reads:
            default += f"; the data is read from {' and '.join(f'config.data.{k}' for k in reads)}"
        if key == "test_path" and name not in _READ:
            default = "config.data.test_split names the test split"
        if key == "validation_path":
            default = "config.data.validation_fraction holds training images out"
        advice = _INSTEAD.get((name, key), default)
        raise InputError(f"config.data.{key} does not go with data.name = {source}; {advice}")
