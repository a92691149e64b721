"""The file and the flags of a command: every failure is one line that holds its cause."""

import os

import pytest
from ml_collections import ConfigDict

from ltjax import config as configs
from ltjax.config.command_line import (
    override,
    place_data,
    read_config_file,
    recipe_list,
    recipes,
)
from ltjax.config.explain import MOST_USED, explain
from ltjax.errors import InputError
from ltjax.main import main

# ml_collections loads a file by a function that will be removed.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
FILES = {
    "cause after a long message": (
        "def get_config():\n    raise ValueError('x' * 600 + ' the cause')\n",
        ["line 2: ValueError: xxx", "the cause; give a Python file"],
    ),
    "error of another kind": (
        "def get_config():\n    return 1 / 0\n",
        ["line 2: ZeroDivisionError"],
    ),
    "while it is read": ("import nowhere\n", ["line 1: ModuleNotFoundError: No module named"]),
    "exit": ("import sys\ndef get_config():\n    sys.exit(0)\n", ["line 3: SystemExit: 0"]),
    "exit while it is read": ("raise SystemExit('bye')\n", ["line 1: SystemExit: bye"]),
    "recursion": ("def get_config():\n    return get_config()\n", ["RecursionError"]),
    "no such name": ("", ["get_config"]),
    "no configuration": ("def get_config():\n    return {'seed': 1}\n", ["returns no ConfigDict"]),
    "None": ("def get_config():\n    pass\n", ["returns no ConfigDict"]),
    "wrong type": (
        "from ltjax.config import default\n"
        "def get_config():\n    c = default()\n    c.train.epochs = 'many'\n    return c\n",
        ["line 4: TypeError", "<class 'int'>"],
    ),
    "control characters": ("raise ValueError('a\\nb \\x1b[2J')\n", [r"a b \x1b[2J"]),
}


@pytest.mark.parametrize("case", FILES)
def test_a_config_file_that_fails_is_one_line_with_the_cause(case, tmp_path, capsys):
    text, words = FILES[case]
    file = tmp_path / "config_file.py"
    file.write_text(text)
    assert main(["ltjax", f"--config={file}"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown[:-1].isprintable()
    assert len(shown) < 900
    for word in words:
        assert word in shown


def test_pipes_and_folders_are_no_config_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.py")
    for path in (tmp_path / "pipe.py", tmp_path):
        with pytest.raises(InputError, match="is not a file"):
            read_config_file(str(path))


def test_a_file_without_a_section_is_named_as_such():
    with pytest.raises(InputError, match="names no key or section of the configuration"):
        override(ConfigDict({"seed": 0}), ["ltjax", "--config.train.epochs=3"])


def test_placeholders_without_values_are_refused():
    from ml_collections import config_dict

    config = configs.default()
    with config.ignore_type():
        config.train.epochs = config_dict.placeholder(int, required=True)
    with pytest.raises(InputError, match="the configuration has no values"):
        configs.resolve(config)


FLAGS = {
    "--config.seed=\x1b": r"'\x1b'",
    "--config.train=5": "--config.train=5: ",
    "--config.train.epochs=5 --config.train=5": "--config.train is provided after",
    "--config.train.epochs=1e30": "config.train.epochs",
    "--config.train.x={'a.b':0}": "a flag --config.KEY=VALUE: ConfigDict does not accept dots",
    "--config.data.limit=-1": "config.data.limit = -1 is not allowed",
    "--config.train.epochs=1e3": "'1e3'; use an integer >= 1 and <= 100000",
    "--config.train.epochs=None": "'None'; use an integer >= 1 and <= 100000",
    "--config.augment.flip=yes": "; use True or False",
    "--config.sampler.balance=1": "config.sampler.balance is not a key; did you mean config",
    "--config.data.limit=few": "'few'; use an integer >= 1 and <= 1000000000 or None",
}


@pytest.mark.parametrize("flag", FLAGS)
def test_flags_with_wrong_values_are_one_line(flag):
    with pytest.raises(InputError) as caught:
        configs.resolve(override(configs.default(), ["ltjax", *flag.split()]))
    assert FLAGS[flag] in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("key", [key for key, about in configs.SCHEMA.items() if about.optional])
def test_none_can_be_typed_where_it_is_allowed(key):
    config = configs.default()
    if configs.SCHEMA[key].types != (str,):
        configs.put(config, key, configs.SCHEMA[key].types[0](1))
    for given in ([f"--config.{key}=None"], [f"-config.{key}", "None"]):
        assert configs.get(override(config, ["ltjax", *given]), key) is None


def test_the_last_flag_of_a_key_counts_also_if_it_is_none():
    flags = ["--config.data.limit=None", "--config.seed=3", "--config.data.limit=5"]
    config = override(configs.default(), ["ltjax", *flags])
    assert (config.data.limit, config.seed) == (5, 3)
    assert override(configs.default(), ["ltjax", *reversed(flags)]).data.limit is None


def test_recipes_are_named_and_need_no_clone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()  # of that name here, which is not the recipe
    assert set(recipes()) >= {"digits_lt", "folder", "cifar10_lt"}
    assert read_config_file("folder").data.name == "folder"
    for line, name in zip(recipe_list().splitlines(), recipes(), strict=True):
        assert line.startswith(name)
        assert len(line.split()) > 3
    with pytest.raises(InputError, match=r"neither a file nor a recipe; did you mean --config fol"):
        read_config_file("configs/folder.py")
    with pytest.raises(InputError, match=r"'a\\x00b' is neither .* recipes are cifar100_lt"):
        read_config_file("a\0b")


DATA = {
    "images": ("folder", {"name": "folder", "dir": "images"}),
    "set.npz": ("digits_lt", {"name": "npz", "path": "set.npz"}),
    "lists/train.txt": ("places_lt", {"name": "list", "path": "lists/train.txt", "dir": "lists"}),
}


@pytest.mark.parametrize("path", DATA)
def test_data_is_a_folder_an_archive_or_a_list(path):
    name, expected = DATA[path]
    data = place_data(read_config_file(name), path).data
    assert {key: data[key] for key in expected} == expected


def test_an_archive_takes_the_place_of_a_folder():
    config = read_config_file("folder")
    config.data.dir = "images"
    data = place_data(config, "set.npz").data
    assert (data.name, data.path, data.dir) == ("npz", "set.npz", "")


def test_digits_are_read_from_no_folder():
    with pytest.raises(InputError, match="use --config folder for a folder of images"):
        place_data(read_config_file("digits_lt"), "images")


def test_explain(capsys):
    assert set(MOST_USED) <= set(configs.SCHEMA)
    assert main(["ltjax", "explain", "--config.loss.tau=3", "decoupled"]) == 0
    shown = capsys.readouterr().out
    assert "loss.tau = 1.0" in shown
    assert "decoupled.tau = None" in shown
    assert configs.SCHEMA["loss.tau"].allowed in shown
    with pytest.raises(InputError, match=r"loss.taus is not a key; did you mean config.loss.tau"):
        explain("loss.taus")


@pytest.mark.parametrize("flag", ["-h", "--help", "--helpfull", "--version", "--list-configs"])
def test_what_the_command_says_of_itself(flag, capsys):
    assert main(["ltjax", flag]) == 0
    words = {"--helpfull": "--coordinator_address", "--version": "0.", "--list-configs": "folder"}
    assert words.get(flag, "ltjax explain KEY") in capsys.readouterr().out
