"""Results in CSV files: kept, never mixed, never torn."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import records, store
from experiments.protocols import PROTOCOLS, Trial
from experiments.results import files, pooled, results
from experiments.store import Run, Store, fingerprint
from experiments.trials import missing
from ltjax import config as configs
from ltjax.errors import InputError

STORED = sorted(
    path
    for name in ("ablation", "additive", "baseline", "choice", "mechanism", "sensitivity")
    for path in files(records.ROOT / "experiments" / name / "results")
)
ABOUT = dict.fromkeys(records.ENVIRONMENT, "1") | {"device": "1 x cpu", "processor": "a"}
RUN = Run({"accuracy": 0.1 + 0.2, "few": 0.4, "seconds": 2.0}, [])


def test_every_run_is_kept_and_read_back_as_the_same_numbers(tmp_path):
    path = tmp_path / "digits_20.csv"
    mine = Store(path, "digits_20")
    curve = [{"step": 50, "x": 0.1}, {"step": 100, "x": 0.3}]
    for seed in (11, 2):
        mine.put(Trial("ce", seed), RUN._replace(curve=curve), ABOUT)
    more = {**RUN.result, "before_whitening/rank": 64, "tau": 0.7}
    mine.put(Trial("crt", 2), Run(more, []), ABOUT)
    again = Store(path, "digits_20")
    assert again.rows == mine.rows == {"ce": {2: RUN.result, 11: RUN.result}, "crt": {2: more}}
    assert list(again.rows["ce"]) == [2, 11]
    assert again.curves == mine.curves == {"ce": {2: curve, 11: curve}}
    assert Trial("ce", 2) in again
    assert Trial("ce", 3) not in again
    header = path.read_text().splitlines()[0].split(",")
    assert header[:7] == ["row", "seed", "accuracy", "many", "medium", "few", "seconds"]
    assert tuple(header[-len(records.LAST) :]) == records.LAST
    assert len(list(tmp_path.iterdir())) == 2


def test_which_images_are_correct_is_kept(tmp_path):
    path = tmp_path / "cifar10_small.csv"
    bits = np.random.default_rng(0).random((2, 3, 21)) < 0.5
    for seed in (0, 1):
        Store(path, "cifar10_small").put(Trial("ce", seed), RUN._replace(correct=bits[seed]), ABOUT)
    found = store.read_correct(path)["ce"]
    assert all(found[seed].tolist() == bits[seed].tolist() for seed in (0, 1))
    assert files(tmp_path) == [path]
    assert results(path).design.correct["ce"].keys() == {0, 1}


def test_runs_of_one_setting_are_pooled_over_experiments(tmp_path):
    paths = {
        name: tmp_path / name / "results" / f"{protocol}.csv"
        for name, protocol in (("ablation", "cifar10_small"), ("baseline", "baseline_cifar10"))
    }
    assert fingerprint("cifar10_small", "bn_la") == fingerprint("baseline_cifar10", "bn_la")
    small, other = (Store(path, path.stem) for path in paths.values())
    for seed in (0, 1):
        small.put(Trial("bn_la", seed), RUN, ABOUT)
    for seed in (1, 100):  # seed 1 is the same run
        other.put(Trial("bn_la", seed), RUN._replace(result={"accuracy": 0.9, "seconds": 1}), ABOUT)
    other.put(Trial("bn_la optimizer.head_rate=0.1", 5), RUN, ABOUT)
    found = pooled(paths["ablation"])
    assert {row: list(seeds) for row, seeds in found.rows.items()} == {"bn_la": [0, 1, 100]}
    assert found.rows["bn_la"][1] == RUN.result
    assert results(paths["ablation"]).rows["bn_la"].keys() == {0, 1}


def test_a_store_without_a_file_keeps_results_in_memory():
    mine = Store(None, "digits_20")
    mine.put(Trial("ce", 1), RUN, ABOUT)
    mine.check(["ce"])
    assert mine.rows == {"ce": {1: RUN.result}}


def test_results_of_another_configuration_are_refused(tmp_path):
    path = tmp_path / "results.csv"
    Store(path, "digits_20").put(Trial("ce", 0), RUN, ABOUT)
    before = path.read_text()
    other = Store(path, "digits_50")
    other.check(["cw"])  # a row that is not there yet
    message = (
        f"row 'ce' holds results of another configuration ({fingerprint('digits_20', 'ce')}; now "
        f"it is {fingerprint('digits_50', 'ce')}); give another --out"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        other.check(["cw", "ce"])
    with pytest.raises(InputError, match="another configuration"):
        other.put(Trial("ce", 1), RUN, ABOUT)
    assert path.read_text() == before


@pytest.mark.parametrize(("column", "value"), [("device", "1 x GPU"), ("processor", "b")])
def test_results_of_another_processor_are_refused(tmp_path, column, value):
    path = tmp_path / "digits_20.csv"
    mine = Store(path, "digits_20")
    mine.put(Trial("crt", 0), RUN, ABOUT | {column: records.UNKNOWN})
    mine.put(Trial("ce", 1), RUN, ABOUT)
    with pytest.raises(InputError, match=f"{column} .{ABOUT[column]}., and this is .{value}."):
        mine.put(Trial("cw", 1), RUN, ABOUT | {column: value})


@pytest.mark.parametrize("column", [*records.KIND[2:], "kernels"])
def test_a_row_is_of_one_kind(tmp_path, column):
    path = tmp_path / "digits_20.csv"
    mine = Store(path, "digits_20")
    mine.put(Trial("ce", 0), RUN, ABOUT)
    before = path.read_text()
    for value in ("other", records.UNKNOWN):
        other = ABOUT | {column: value} if column in ABOUT else ABOUT
        run = RUN if column in ABOUT else RUN._replace(kernels=value)
        with pytest.raises(InputError):
            mine.put(Trial("ce", 1), run, other)
    assert path.read_text() == before
    mine.put(Trial("ce", 0), RUN._replace(kernels="native"), ABOUT)  # in place of the only one
    # A file that something else has written.
    lines = records.read(path)
    lines.append(lines[0] | {"seed": "1", column: "other"})
    records.update(path, lambda old: lines)
    with pytest.raises(InputError, match=f"row 'ce' mixes runs of different kinds .{column} "):
        results(path)
    with pytest.raises(InputError, match="mixes runs of different kinds"):
        mine.check(["ce"])


def test_a_row_is_not_added_to_by_other_code(tmp_path):
    path = tmp_path / "digits_20.csv"
    mine = Store(path, "digits_20")
    here = records.environment("1 x cpu")
    mine.put(Trial("ce", 0), RUN, here)
    mine.check(["ce", "cw"])
    mine.put(Trial("cw", 0), RUN, here | {"sources": "older"})
    mine.check(["ce"])
    with pytest.raises(InputError, match=r"row 'cw' .*sources 'older' and '[0-9a-f]{16}'"):
        mine.check(["cw"])
    # A row that is complete is shown, whatever code has made it.
    mine.check(["ce", "cw"], added=["ce"])
    with pytest.raises(InputError, match="row 'cw' "):
        mine.check(["ce", "cw"], added=["cw"])


def test_subsets_that_follow_the_seed_are_another_setting():
    assert fingerprint("cifar10_small", "ce") != fingerprint("cifar10_small_subsets", "ce")


def second_stages(features, protocol="digits_20"):
    """Results in memory: a network, and its second stages on the features of their own runs."""
    mine = Store(None, protocol)
    for row, value in features.items():
        result = {**RUN.result, "before_whitening/effective_rank": value}
        mine.put(Trial(row, 3), Run(result, []), ABOUT)
    return mine


def test_second_stages_stand_on_the_stored_network():
    ask = [Trial(row, 3) for row in ("cw", "cw_crt")]
    same = second_stages({"cw": 5.5, "cw_crt": 5.5})
    assert missing(ask, same) == []
    # One that is missing is run with its network and with what is stored of that network.
    third = Trial("cw_posthoc_la", 3)
    assert missing([third], same) == [[Trial("cw", 3), third, Trial("cw_crt", 3)]]
    # One that stands on another training of the network is run again, and so is the network.
    apart = second_stages({"ce": 1.0, "cw": 5.5, "cw_crt": 5.4})
    assert not apart.same_network(Trial("cw_crt", 3))
    assert missing([*ask, Trial("ce", 3)], apart) == [ask]
    # A network that is not stored is stored with its second stage.
    alone = second_stages({"cw_crt": 5.5})
    assert missing(ask[1:], alone) == [ask]
    assert missing([Trial("cw_crt", 0)], alone) == [[Trial("cw", 0), Trial("cw_crt", 0)]]


@pytest.mark.parametrize(("value", "same"), [(5.505, True), (5.55, False)])
def test_in_bfloat16_other_kernels_measure_the_same_network(value, same):
    trial = Trial("cw_posthoc_la", 3)
    features = {"cw": 5.5, "cw_posthoc_la": value}
    assert second_stages(features, "cifar10").same_network(trial) is same
    assert not second_stages(features).same_network(trial)


@pytest.mark.parametrize("path", [path for path in STORED if path.parts[-3] == "ablation"], ids=str)
def test_stored_second_stages_stand_on_the_stored_network(path):
    mine = Store(path, path.stem)
    trials = [Trial(row, seed) for row, seeds in mine.rows.items() for seed in seeds]
    assert [trial for trial in trials if not mine.same_network(trial)] == []


WRITER = """
import sys
from pathlib import Path
from experiments import records
path, first = Path(sys.argv[1]), int(sys.argv[2])
for seed in range(first, 40, 2):
    records.update(path, lambda old: records.merged(old, [{"seed": str(seed)}], ("seed",)))
"""


@pytest.mark.slow
def test_two_processes_at_once_lose_nothing(tmp_path):
    path = tmp_path / "results.csv"
    commands = [[sys.executable, "-c", WRITER, str(path), str(first)] for first in (0, 1)]
    processes = [subprocess.Popen(command, cwd=records.ROOT) for command in commands]
    assert [process.wait() for process in processes] == [0, 0]
    assert sorted(int(line["seed"]) for line in records.read(path)) == list(range(40))


def test_a_kill_between_two_writes_leaves_the_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "digits_20.csv"
    mine = Store(path, "digits_20")
    mine.put(Trial("ce", 0), RUN, ABOUT)

    def killed(self, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            mine.put(Trial("ce", 1), RUN, ABOUT)
    assert store.read(path) == {"ce": {0: RUN.result}}
    mine.put(Trial("ce", 1), RUN, ABOUT)
    assert list(store.read(path)["ce"]) == [0, 1]


def test_what_the_hash_depends_on():
    assert fingerprint("digits_20", "ce") != fingerprint("digits_50", "ce")
    assert fingerprint("digits_20", "ce") != fingerprint("digits_20", "cw")
    # The network that a second stage starts from counts, and the epochs of both stages.
    names = {fingerprint("digits_20", row) for row in ("crt", "cw_crt", "lws", "tau_norm")}
    assert len(names) == 4
    flat = configs.resolve(configs.default()).flat()
    known = store.digest(flat)
    assert store.digest(flat | {"data.workers": 3, "checkpoint.keep": 9}) == known
    assert store.digest(flat | {"loss.tau": 2.0}) != known


def test_a_key_that_came_later_counts_where_it_changes_the_behavior_there_was(monkeypatch):
    flat = configs.resolve(configs.default()).flat()
    before = store.digest(flat)
    schema = {**configs.SCHEMA, "loss.later": configs.SCHEMA["loss.tau"]}
    monkeypatch.setattr(configs, "SCHEMA", schema)
    default = schema["loss.later"].default
    assert store.digest(flat | {"loss.later": default}) == before
    assert store.digest(flat | {"loss.later": default + 1}) != before
    key = schema["loss.tau"]
    newer = key._replace(option=key.option._replace(default=default + 1, older=default))
    monkeypatch.setattr(configs, "SCHEMA", {**configs.SCHEMA, "loss.later": newer})
    assert store.digest(flat | {"loss.later": default}) == before
    assert store.digest(flat | {"loss.later": default + 1}) != before


def test_hashed_keys_are_keys():
    assert store._hashed_keys() <= set(configs.SCHEMA)
    assert not store._hashed_keys() & store.NOT_HASHED


# Defaults that were others when the tables were made, above all `loss.prior`. `Store.check` refuses
# to add runs of today's defaults to these rows; the names go as the rows are run again.
OLDER = {path: key.older for path, key in configs.SCHEMA.items() if key.older != key.default}


@pytest.mark.parametrize("path", STORED, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_stored_results_are_of_a_known_configuration(path, monkeypatch):
    lines = records.read(path)
    protocol, older = PROTOCOLS[path.stem], f"{path.stem} of older defaults"
    overrides = OLDER | protocol.overrides
    monkeypatch.setitem(PROTOCOLS, older, protocol._replace(overrides=overrides))
    for row, known in {(line["row"], line["configuration"]) for line in lines}:
        assert known in (fingerprint(path.stem, row), fingerprint(older, row)), row
    keys = [(line["row"], line["seed"]) for line in lines]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"\d+ x .+", line["device"]) for line in lines)


def test_every_column_is_documented():
    text = (records.ROOT / "experiments" / "README.md").read_text()
    for path in (records.ROOT / "experiments").glob("*/results/*.csv"):
        for column in records.read(path)[0]:
            group = column.split("/")[0] + "/..." if "/" in column else column
            group = group.removesuffix("_deviation")
            assert f"`{group}`" in text, f"{path}: {column}"
