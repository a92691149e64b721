"""Files of the Hugging Face hub: of a cache, or downloaded into one."""

import shlex
from pathlib import Path

import platformdirs

from ltjax.errors import InputError, one_line

# What repositories call their weights. Those of OpenCLIP come first, since the other files beside
# them hold the same network as other libraries lay it out.
FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)


def weights_cache() -> Path:
    """The folder of weights that were fetched by hand.

    Returns:
      Its path; it need not exist.
    """
    return platformdirs.user_cache_path("ltjax") / "weights"


def by_hand(path: Path, address: str) -> str:
    """The command that fetches a file.

    Args:
      path: where it shall lie.
      address: where it is.

    Returns:
      A line for a shell.
    """
    return f"curl -L --create-dirs -o {shlex.quote(str(path))} {address}"


def fetch(what: str, repository: str, file: str = "") -> Path:
    """Where a file of the hub lies on this machine; it is downloaded if it does not yet.

    A file that was fetched by hand is taken first, then one of the hub's own cache, whose newest
    version is not asked for. Nothing is downloaded if `HF_HUB_OFFLINE` is set.

    Args:
      what: what the file is, for messages.
      repository: owner and name.
      file: its name in the repository; empty takes the first of `FILES` that is there.

    Returns:
      Its path.

    Raises:
      InputError: it cannot be downloaded; the message says how to fetch it by hand.
    """
    files = (file,) if file else FILES
    folder = weights_cache() / repository.replace("/", "--")
    for name in files:
        if (folder / name).exists():
            return folder / name
    shown = file or FILES[2]
    command = by_hand(folder / shown, f"https://huggingface.co/{repository}/resolve/main/{shown}")
    try:
        import huggingface_hub as hub
    except ImportError as e:
        raise InputError(
            f"{what} is downloaded by a package that is not installed; run: "
            f"pip install 'ltjax[hub]', or: {command}"
        ) from e
    for name in files:
        if isinstance(found := hub.try_to_load_from_cache(repository, name), str):
            return Path(found)
    for name in files:
        try:
            return Path(hub.hf_hub_download(repository, name))
        except Exception as e:  # the client passes on errors of several libraries
            if _lacks(e) and name != files[-1]:
                continue
            reason = one_line(str(e).partition("\n")[0] or type(e).__name__, most=200)
            raise InputError(f"{what} cannot be downloaded: {reason}; run: {command}") from e
    raise AssertionError("the last file returns or raises")


def _lacks(error: Exception) -> bool:
    """Whether a repository was reached and has no such file."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    # The second is of the first kind, and means that the hub was not reached.
    return isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)
