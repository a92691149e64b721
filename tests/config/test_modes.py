"""The table of flags and modes against the flags that there are, and against their help."""

import pytest

from ltjax.config.command_line import parse_flags
from ltjax.config.modes import FLAG_MODES, check_flags
from ltjax.errors import InputError
from ltjax.main import MODES, _define_flags

EVERY_MODE = {"help", "h", "helpfull", "version", "list-configs", "mode", "workdir"}
VALUES = {"checkpoint": "best", "format": "onnx", "distributed": "true"}


def given(*args):
    values = _define_flags()
    parse_flags(values, ["ltjax", *args])
    return values


def test_every_flag_has_its_modes():
    values = _define_flags()
    assert set(values) - EVERY_MODE == set(FLAG_MODES)
    assert {mode for modes in FLAG_MODES.values() for mode in modes} == set(MODES)
    for name, modes in FLAG_MODES.items():
        beginning = [words.split(": ")[0] for words in values[name].help.split("; ")]
        said = {mode for words in beginning for mode in words.split(", ")} & set(MODES)
        assert not said or said == set(modes), name


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FLAG_MODES)
def test_flags_of_other_modes_are_refused(name, mode):
    values = given(f"--mode={mode}", f"--{name}={VALUES.get(name, '1')}")
    if mode in FLAG_MODES[name]:
        check_flags(values)
    else:
        with pytest.raises(InputError, match=f"--{name} does not go with --mode={mode}[;,] "):
            check_flags(values)


def test_flags_that_are_not_given_are_never_refused():
    for mode in MODES:
        check_flags(given(f"--mode={mode}", "--workdir=a"))
