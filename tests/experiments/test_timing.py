"""Timing in turns, processes, and the files of the experiments on speed."""

import argparse
import signal
import sys

import numpy as np
import pytest

from experiments import commands, records, timing
from ltjax.errors import InputError

ABOUT = dict.fromkeys(records.ENVIRONMENT, "1")
PARTS = {"small": {"a": {"seconds": 0.1 + 0.2, "rounds": 3}, "b": {"seconds": 2.0}}}


def test_contenders_take_turns():
    calls: list[str] = []
    contenders = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = timing.interleaved(contenders, 2, warm_up=1)
    assert "".join(calls) == "ababab"
    assert [len(t.wall) for t in times.values()] == [2, 2]
    assert all((t.wall >= 0).all() and (t.cpu >= 0).all() for t in times.values())


def test_order_waking_and_fewer_rounds():
    calls: list[str] = []
    contenders = {name: lambda name=name: calls.append(name) for name in "ab"}
    timing.interleaved(contenders, 3, warm_up=0, alternate=True)
    assert "".join(calls) == "abbaab"
    calls.clear()
    times = timing.interleaved(contenders, {"a": 4, "b": 2}, warm_up=0, wake=True)
    assert "".join(calls) == "aaaabbaaaabb"
    assert len(times["b"].wall) == 2


def test_cpu_seconds_are_those_of_work_and_not_of_waiting():
    waiting = timing.timed(lambda: signal.sigtimedwait([], 0.2))
    assert waiting[0] >= 0.19 > 0.1 > waiting[1]


def test_ratios_are_within_a_round():
    a, b = (timing.Times(np.array(x), np.array(x)) for x in ([1.0, 9.0, 1.0], [2.0, 18.0, 3.0]))
    assert a.times_faster(b) == 2.0
    assert a.median == 1.0


def test_parts_are_kept_and_replaced(tmp_path):
    path = tmp_path / "cpu.csv"
    assert timing.write(path, PARTS, ABOUT) == PARTS
    large = {"large": {"a": {"seconds": 5.0}}}
    assert timing.write(path, large, ABOUT) == timing.read(path) == PARTS | large
    new = {"small": {"c": {"seconds": 1.0}}}
    assert list(timing.write(path, new, ABOUT).items()) == list((new | large).items())


@pytest.mark.parametrize("column", ["processor", "device"])
@pytest.mark.parametrize("value", ["2", records.UNKNOWN])
def test_parts_of_another_machine_are_refused(tmp_path, column, value):
    path = tmp_path / "cpu.csv"
    timing.write(path, PARTS, ABOUT | {column: value})
    before = path.read_text()
    with pytest.raises(InputError, match=f"'small' was measured on the {column} '{value}'"):
        timing.write(path, {"large": {"a": {"seconds": 5.0}}}, ABOUT)
    assert path.read_text() == before
    timing.write(path, PARTS, ABOUT)  # all of it anew


def test_processes(tmp_path):
    file = tmp_path / "out.txt"
    process = timing.start("timeit", "-n1", "-r1", f"open({str(file)!r}, 'w').write('x')")
    assert timing.wait_for(file, process)
    timing.finish(process)
    failing = timing.start("timeit", "-n1", "import absent_module")
    assert not timing.wait_for(tmp_path / "never", failing)
    with pytest.raises(RuntimeError, match="absent_module"):
        timing.finish(failing)


def test_peak_memory_is_of_the_process():
    code = "import sys; x = bytearray(int(sys.argv[1]))"
    small, large = (timing.peak_mebibytes(code, str(size)) for size in (0, 100 * 2**20))
    assert 90 < large - small < 110


def test_environment_names_code_machine_and_versions():
    found = records.environment("2 x cpu")
    assert tuple(found) == records.ENVIRONMENT
    assert found["python"].split(".")[0] == str(sys.version_info.major)
    assert found["numpy"] == np.__version__
    assert records.UNKNOWN not in found.values()


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_readmes_show_the_commands(name):
    text = (records.ROOT / "experiments" / name / "README.md").read_text()
    for command in commands.COMMANDS[name]:
        assert command in text


def test_a_program_ends_before_it_measures_what_it_could_not_store(tmp_path, capsys):
    path = tmp_path / "cpu.csv"
    timing.write(path, PARTS, ABOUT)
    parser = argparse.ArgumentParser()
    timing.check(parser, path, ["small"], ABOUT | {"processor": "2"})
    with pytest.raises(SystemExit) as stopped:
        timing.check(parser, path, ["large"], ABOUT | {"processor": "2"})
    assert stopped.value.code == 2
    assert "measure all parts, or give another --out" in capsys.readouterr().err
