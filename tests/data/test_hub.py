"""Files of the Hugging Face hub, by a stand-in for its package; nothing is downloaded."""

import sys
from types import ModuleType

import pytest
from safetensors.numpy import save_file

from ltjax.data.hub import FILES, fetch
from ltjax.data.weights import read_pretrained
from ltjax.errors import InputError
from ltjax.models.pretrained import PRETRAINED
from ltjax.models.vit import VisionTransformer, ViTShape
from tests.models.test_pretrained import golden, state


class EntryNotFoundError(Exception):
    """The repository has no such file."""


class LocalEntryNotFoundError(EntryNotFoundError):
    """The hub was not reached."""


class Hub(ModuleType):
    """A hub with some files, of which some are cached."""

    def __init__(self, folder, *, files=(), cached=(), error=None):
        super().__init__("huggingface_hub")
        self.folder, self.files, self.cached, self.error = folder, files, cached, error
        self.asked = []

    def try_to_load_from_cache(self, repository, name):
        # The hub's package gives an object of its own for a file that is known to be missing.
        return str(self.folder / name) if name in self.cached else object()

    def hf_hub_download(self, repository, name):
        self.asked.append((repository, name))
        if self.error is not None:
            raise self.error
        if name not in self.files:
            raise EntryNotFoundError(f"404: {name}")
        return str(self.folder / name)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def install(**options):
        made = Hub(tmp_path, **options)
        errors = ModuleType("huggingface_hub.errors")
        errors.EntryNotFoundError = EntryNotFoundError
        errors.LocalEntryNotFoundError = LocalEntryNotFoundError
        monkeypatch.setitem(sys.modules, "huggingface_hub", made)
        monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
        return made

    return install


def test_a_file_is_downloaded_by_its_name(hub, tmp_path):
    made = hub(files=("a/w.npz",))
    assert fetch("x", "own/er", "a/w.npz") == tmp_path / "a/w.npz"
    assert made.asked == [("own/er", "a/w.npz")]


def test_a_repository_is_searched_for_what_it_may_call_its_weights(hub, tmp_path):
    made = hub(files=FILES[2:])
    assert fetch("x", "own/er") == tmp_path / "model.safetensors"
    assert [name for _, name in made.asked] == list(FILES[:3])


def test_what_is_cached_is_not_asked_for(hub, tmp_path):
    made = hub(cached=("pytorch_model.bin",), error=LocalEntryNotFoundError("offline"))
    assert fetch("x", "own/er") == tmp_path / "pytorch_model.bin"
    assert not made.asked


def test_what_was_fetched_by_hand_comes_first(hub, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # not installed
    with pytest.raises(InputError) as caught:
        fetch("model.weights = vit", "own/er", "w.npz")
    path = tmp_path / "cache/ltjax/weights/own--er/w.npz"
    command = f"curl -L --create-dirs -o {path} https://huggingface.co/own/er/resolve/main/w.npz"
    assert str(caught.value).endswith(f"run: pip install 'ltjax[hub]', or: {command}")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert fetch("x", "own/er", "w.npz") == path


FAILURES = [
    (None, "404: pytorch_model.bin|404: open_clip"),
    (LocalEntryNotFoundError("outgoing traffic has been disabled\nby HF_HUB_OFFLINE"), "disabled;"),
    (OSError(28, "No space left on device"), "No space left on device; run: curl"),
    (ValueError("\x1b[31mred\x1b[0m"), r"x1b.31mred"),
    (RuntimeError(), "RuntimeError; run: curl"),
]


@pytest.mark.parametrize(("error", "reason"), FAILURES)
def test_what_cannot_be_downloaded(hub, error, reason):
    made = hub(error=error)
    with pytest.raises(InputError, match=reason) as caught:
        fetch("x", "own/er")
    assert "\n" not in str(caught.value)
    assert "run: curl -L --create-dirs -o " in str(caught.value)
    assert len(made.asked) == (len(FILES) if error is None else 1)  # only a missing file goes on


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A small network of an entry whose repository has its file."""
    entry = PRETRAINED["dinov2_s14_reg4"]._replace(backbone="small")
    monkeypatch.setitem(PRETRAINED, "small", entry)
    save_file(state(golden("dinov2")[1]), tmp_path / "model.safetensors")
    shape = ViTShape(16, 2, 2, 4, 5, registers=2, layer_scale=True)
    return VisionTransformer(shape)


def test_entries_and_repositories_are_read(hub, small, tmp_path):
    made = hub(files=("model.safetensors",))
    repository = PRETRAINED["small"].repository
    for weights in ("small", f"hf:{repository}-other/model.safetensors"):
        found = read_pretrained(weights, "small", small)
        assert found.entry is PRETRAINED["small"]
        assert found.file == tmp_path / "model.safetensors"
    asked = [repository, f"{repository}-other"]
    assert made.asked == [(one, "model.safetensors") for one in asked]


def test_the_hash_is_checked_where_it_is_known(hub, small, monkeypatch):
    hub(files=("model.safetensors",))
    entry = PRETRAINED["small"]._replace(sha256="12345678")
    monkeypatch.setitem(PRETRAINED, "small", entry)
    with pytest.raises(InputError, match=r"its SHA-256 begins with .* instead of 12345678; fetch"):
        read_pretrained("small", "small", small)


def test_a_file_that_does_not_fit_is_named_as_it_was_asked_for(hub, small):
    hub(files=("model.safetensors",))
    with pytest.raises(InputError, match=r"^small does not fit .*; left over: blocks.1"):
        read_pretrained("small", "small", small.clone(shape=small.shape._replace(depth=1)))
