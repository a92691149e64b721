"""Weights of Flax in `.npz` files, and files that nobody should trust."""

import io
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.data.weights import read_weights
from ltjax.errors import InputError

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def npy(array, *, header=None, pickled=False):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=pickled)
    data = file.getvalue()
    if header is None:
        return data
    text = header.ljust(117).encode() + b"\n"
    return data[:8] + len(text).to_bytes(2, "little") + text + array.tobytes()


def shaped(shape, descr="<f4", fortran=False):
    text = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}"
    return npy(VALUES, header=text)


def archive(members, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return file.getvalue()


GOOD = archive({"params/cls.npy": npy(VALUES)})


def announced(size):
    """A member that says it has another size."""
    data, wanted = bytearray(GOOD), len(npy(VALUES)).to_bytes(4, "little")
    for place in (data.find(wanted), data.rfind(wanted)):
        data[place : place + 4] = size.to_bytes(4, "little")
    return bytes(data)


HOSTILE = {
    "empty": b"",
    "text": b"<!DOCTYPE html><html>Not found</html>",
    "an array alone": npy(VALUES),
    "only its start": b"PK\x03\x04",
    "cut off": GOOD[:-9],
    "cut in the middle": GOOD[: len(GOOD) // 2],
    "a checksum that is wrong": GOOD.replace(VALUES.tobytes()[8:16], b"12345678"),
    "a larger member than there is": announced(2**31),
    "a smaller member": announced(100),
    "a pickled object": archive({"w.npy": npy(np.array([print], object), pickled=True)}),
    "objects": archive({"w.npy": shaped((3, 4), "|O")}),
    "no array": archive({"w.npy": b"123"}),
    "no header": archive({"w.npy": npy(VALUES)[:10]}),
    "a header of code": archive({"w.npy": npy(VALUES, header="__import__('os').system('ls')")}),
    "a deep header": archive({"w.npy": npy(VALUES, header="(" * 100)}),
    "a huge shape": archive({"w.npy": shaped((2**40, 2**40))}),
    "a shape that overflows": archive({"w.npy": shaped((2**62, 4))}),
    "a negative shape": archive({"w.npy": shaped((-3, -4))}),
    "a shape of another size": archive({"w.npy": shaped((3, 5))}),
    "a type of no size": archive({"w.npy": shaped((3, 4), "|V0")}),
    "an unknown type": archive({"w.npy": shaped((3, 4), "<f3")}),
    "two of one name": archive({"w": npy(VALUES), "w.npy": npy(VALUES)}),
    "compressed by another method": archive({"w.npy": npy(VALUES)}, zipfile.ZIP_LZMA),
    "a bomb": archive({"w.npy": npy(VALUES) + bytes(10**6)}, zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name, tmp_path, capsys):
    path = tmp_path / "w.npz"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(InputError, match=r"w\.npz cannot be read: ") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert capsys.readouterr() == ("", "")


def test_arrays_are_read(tmp_path):
    half = VALUES.astype(jnp.bfloat16)
    np.savez_compressed(tmp_path / "w.npz", **{"a/b": VALUES, "half": half.view("V2")})
    found, _ = read_weights(tmp_path / "w.npz")
    np.testing.assert_array_equal(found["a/b"], VALUES)
    assert found["half"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(found["half"], half)


def test_numbers_of_another_type_are_no_weights(tmp_path):
    (tmp_path / "w.npz").write_bytes(GOOD)
    found, digest = read_weights(tmp_path / "w.npz")
    assert list(found) == ["params/cls"]
    assert len(digest) == 64
