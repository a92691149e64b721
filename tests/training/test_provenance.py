"""What a result says of the configuration, the code and the processor."""

import re

from ltjax import config as configs
from ltjax.training import provenance
from ltjax.training.provenance import (
    PACKAGE,
    ROOMS,
    code_version,
    configuration_digest,
    sources_digest,
)


def test_every_key_is_in_the_configuration_s_hash():
    config = configs.resolve(configs.default())
    known = configuration_digest(config)
    assert re.fullmatch("[0-9a-f]{16}", known)
    assert configuration_digest(configs.resolve(config.nested())) == known
    for path, value in (("optimizer.decay", "all"), ("data.dir", "x"), ("cpu_devices", 1)):
        changed = configs.as_config_dict(config)
        configs.put(changed, path, value)
        assert configuration_digest(configs.resolve(changed)) != known


def copied(tmp_path, monkeypatch):
    """A package of a few files, whose hash is taken instead of ltjax's."""
    for room, text in (("losses", "def f():\n    return 1\n"), ("report", "x = 1\n")):
        (tmp_path / room).mkdir()
        (tmp_path / room / "a.py").write_text(text)
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "a.cc").write_text("int a;")
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    return tmp_path


def test_the_sources_hash_is_of_the_code_that_decides_results(tmp_path, monkeypatch):
    package = copied(tmp_path, monkeypatch)
    digest = sources_digest.__wrapped__
    known = digest()
    (package / "losses" / "a.py").write_text('"""Words."""\n\n\ndef f():\n    return 1  # one\n')
    (package / "report" / "a.py").write_text("x = 2\n")
    assert digest() == known
    (package / "losses" / "a.py").write_text("def f():\n    return 2\n")
    other = digest()
    assert other != known
    (package / "kernels" / "a.cc").write_text("int b;")
    assert digest() != other
    (package / "losses" / "a.py").rename(package / "losses" / "b.py")
    assert digest() != other


def test_its_rooms_are_there():
    assert all((PACKAGE / room).is_dir() for room in ROOMS)


def test_the_version_is_git_s_in_a_clone_and_else_the_package_s(tmp_path, monkeypatch):
    import ltjax

    if (PACKAGE.parent / ".git").exists():
        assert re.fullmatch(r"\S*[0-9a-f]{10}(-dirty)?|v?[\d.]+(-dirty)?", code_version())
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "site-packages" / "ltjax")
    assert code_version.__wrapped__() == ltjax.__version__
