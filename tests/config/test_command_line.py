"""The file and the flags of a command: every failure is one line that holds its cause."""

import os

import pytest

from ltjax import config as configs
from ltjax.config.command_line import override, read_config_file
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
    "--config.data.limit=-1": "config.data.limit = -1 is not allowed",
}


@pytest.mark.parametrize("flag", FLAGS)
def test_flags_with_wrong_values_are_one_line(flag):
    with pytest.raises(InputError) as caught:
        configs.resolve(override(configs.default(), ["ltjax", *flag.split()]))
    assert FLAGS[flag] in str(caught.value)
    assert str(caught.value).isprintable()
