"""Tensors of a PyTorch file, read without PyTorch; nothing in the file is ever executed.

A `.pth` file is a pickle, which is a program, with the bytes of the tensors beside it. The programs
that `torch.save` writes for tensors need few instructions and no other functions than those that
build a tensor. These are interpreted here, one by one, as data; any other instruction or name is
refused. Both formats are read: the zip archive, and the one before PyTorch 1.6.
"""

import io
import pickletools
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

# The first bytes of a file of the older format: a pickled number.
_OLD_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# Sizes of the description of the tensors. Those of a thousand tensors take 50,000 instructions;
# millions of them, which a hostile file may have, would take minutes.
_MOST_BYTES, _MOST_STEPS = 2**24, 2**19
_DTYPES: dict[str, np.dtype] = {
    "torch DoubleStorage": np.dtype("<f8"),
    "torch FloatStorage": np.dtype("<f4"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch BFloat16Storage": np.dtype(jnp.bfloat16),
    "torch LongStorage": np.dtype("<i8"),
    "torch IntStorage": np.dtype("<i4"),
    "torch ShortStorage": np.dtype("<i2"),
    "torch CharStorage": np.dtype("i1"),
    "torch ByteStorage": np.dtype("u1"),
    "torch BoolStorage": np.dtype("?"),
}


class TorchFileError(ValueError):
    """The file cannot be read; the message is the reason only."""


class _Name(NamedTuple):
    """A name of Python's that a file mentions."""

    name: str


class _Storage(NamedTuple):
    """Numbers that tensors are views of."""

    dtype: np.dtype
    key: str
    size: int


class _Tensor(NamedTuple):
    """A view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_tensors(data: bytes) -> dict[str, np.ndarray]:
    """Reads the tensors of a file that `torch.save` wrote for a dictionary of tensors.

    Args:
      data: content of the file.

    Returns:
      Arrays by name, views of the content where that is possible. Where the dictionary has an
      entry `state_dict` or `model` that is a dictionary, that is read. What is no tensor is left
      out.

    Raises:
      TorchFileError: the file is damaged, or holds anything but tensors, numbers and text.
    """
    try:
        found, storages = _read_zip(data) if data[:2] == b"PK" else _read_old(data)
    except (TorchFileError, MemoryError):
        raise
    except Exception as e:  # parsers of damaged bytes raise errors of many kinds
        raise TorchFileError(f"it is damaged: {' '.join(str(e).split())[:100]}") from e
    if not isinstance(found, dict):
        raise TorchFileError("it holds no dictionary of tensors")
    for name in ("state_dict", "model"):
        if isinstance(found.get(name), dict):
            found = found[name]
    wanted = {k: v for k, v in found.items() if isinstance(v, _Tensor)}
    return {name: _array(name, tensor, storages) for name, tensor in wanted.items()}


def _read_zip(data: bytes) -> tuple[Any, dict[str, bytes]]:
    """What the pickle of an archive holds, and the bytes of the storages."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > len(data):
            raise TorchFileError("its members are announced larger than the file")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise TorchFileError("a member is compressed, as torch.save never does")
        if len({member.filename for member in members}) != len(members):
            raise TorchFileError("two members have one name")
        pickles = [m.filename for m in members if m.filename.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise TorchFileError("it is no archive of torch.save: it has no single data.pkl")
        prefix = pickles[0].removesuffix("data.pkl")
        names = set(archive.namelist())
        if f"{prefix}byteorder" in names and archive.read(f"{prefix}byteorder") != b"little":
            raise TorchFileError("its numbers are not in little-endian order")
        found = _interpret(io.BytesIO(archive.read(pickles[0])))
        inside = f"{prefix}data/"
        keys = [name for name in names if name.startswith(inside)]
        return found, {name.removeprefix(inside): archive.read(name) for name in keys}


def _read_old(data: bytes) -> tuple[Any, dict[str, bytes]]:
    """The same of the older format, where pickles and storages follow each other."""
    if not data.startswith(_OLD_MAGIC):
        raise TorchFileError("it is no file of torch.save")
    file = io.BytesIO(data)
    file.seek(len(_OLD_MAGIC))
    protocol, system = _interpret(file), _interpret(file)
    if protocol != 1001 or not isinstance(system, dict) or not system.get("little_endian"):
        raise TorchFileError("it is of an unknown version, or not in little-endian order")
    used: dict[str, _Storage] = {}
    found = _interpret(file, used)
    storages: dict[str, bytes] = {}
    for key in _interpret(file):
        if key not in used or key in storages:
            raise TorchFileError("its list of storages is wrong")
        count = int.from_bytes(file.read(8), "little", signed=True)
        if count != used[key].size:
            raise TorchFileError("a storage has another size than announced")
        storages[key] = file.read(count * used[key].dtype.itemsize)
    return found, storages


def _array(name: str, tensor: _Tensor, storages: dict[str, bytes]) -> np.ndarray:
    """The values of a tensor, a view of its storage's bytes."""
    storage, size = tensor.storage, tensor.storage.dtype.itemsize
    content = storages.get(storage.key, b"")
    if len(content) != storage.size * size:
        raise TorchFileError(
            f"the numbers of {name[:80]!r} are cut off or missing: {len(content)} of "
            f"{storage.size * size} bytes"
        )
    count = 1
    for side in tensor.shape:  # in Python's integers, which do not overflow
        count *= side
    pairs = list(zip(tensor.shape, tensor.strides, strict=True))
    last = tensor.offset + sum((side - 1) * stride for side, stride in pairs)
    if count > storage.size or (count and last >= storage.size):
        raise TorchFileError(f"the tensor {name[:80]!r} reaches beyond its numbers")
    if not count:
        return np.zeros(tensor.shape, storage.dtype)
    flat = np.frombuffer(content, storage.dtype)[tensor.offset :]
    strides = [size * stride for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False)


def _naturals(value: Any, most: int = 8) -> tuple[int, ...]:
    """A tuple of integers >= 0, as shapes and strides are."""
    if not isinstance(value, tuple) or len(value) > most:
        raise TorchFileError("a tensor has no shape")
    if not all(type(x) is int and 0 <= x < 2**48 for x in value):
        raise TorchFileError("a tensor has a shape, a stride or an offset that is not allowed")
    return value


def _tensor(*args: Any) -> _Tensor:
    """`torch._utils._rebuild_tensor_v2`."""
    storage, offset, shape, strides = args[:4]
    (start,) = _naturals((offset,))
    if not isinstance(storage, _Storage) or len(_naturals(shape)) != len(_naturals(strides)):
        raise TorchFileError("a tensor is built from something else than a storage and a shape")
    return _Tensor(storage, start, shape, strides)


def _parameter(tensor: Any, *_: Any) -> _Tensor:
    """`torch._utils._rebuild_parameter`."""
    if not isinstance(tensor, _Tensor):
        raise TorchFileError("a parameter is built from something else than a tensor")
    return tensor


def _ordered(*args: Any) -> dict[Any, Any]:
    """`collections.OrderedDict`, empty."""
    if args:
        raise TorchFileError("a dictionary is built from arguments, as torch.save never does")
    return {}


# What a file may call. Nothing of it runs code of the file.
_CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": _ordered,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}


def _storage(pid: Any, used: dict[str, _Storage] | None) -> _Storage:
    """The storage that a persistent id stands for."""
    if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
        raise TorchFileError("it refers to something else than a storage")
    kind, key, count = pid[1], pid[2], pid[4]
    known = isinstance(kind, _Name) and kind.name in _DTYPES and isinstance(key, str)
    if not known or pid[5:] not in ((), (None,)):
        raise TorchFileError("it has a storage of an unknown kind")
    found = _Storage(_DTYPES[kind.name], key, *_naturals((count,)))
    if used is not None and used.setdefault(key, found) != found:
        raise TorchFileError("two storages have one name")
    return found


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = _Name("the mark")


class _Machine:
    """The stack and the memory of a pickle's program."""

    def __init__(self, used: dict[str, _Storage] | None):
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}
        self.used = used

    def to_mark(self) -> list[Any]:
        """Takes what lies above the last mark, and the mark."""
        above: list[Any] = []
        while (top := self.stack.pop()) is not _MARK:
            above.append(top)
        return above[::-1]

    def set_items(self, items: list[Any]) -> None:
        """Puts pairs of key and value into the dictionary on top."""
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise TorchFileError("it sets items of something else than a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # The hashes of larger numbers can be made to be equal, which takes hours.
            if not isinstance(key, str) and not (type(key) is int and 0 <= key < 2**31):
                raise TorchFileError("a dictionary has a key that is neither text nor a number")
            target[key] = value

    def append(self, items: list[Any]) -> None:
        """Appends to the list on top."""
        if not isinstance(self.stack[-1], list):
            raise TorchFileError("it appends to something else than a list")
        self.stack[-1].extend(items)

    def call(self) -> None:
        """Calls the function below the top with the tuple on top."""
        args, function = self.stack.pop(), self.stack.pop()
        known = isinstance(function, _Name) and function.name in _CALLS
        if not known or not isinstance(args, tuple):
            raise TorchFileError("it calls something that is no function for tensors")
        self.stack.append(_CALLS[function.name](*args))

    def step(self, name: str, argument: Any) -> None:
        """Does one instruction."""
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memory[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memory[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _TUPLES:
            parts = [stack.pop() for _ in range(_TUPLES[name])]
            stack.append(tuple(parts[::-1]))
        elif name == "TUPLE":
            stack.append(tuple(self.to_mark()))
        elif name in ("EMPTY_DICT", "EMPTY_LIST"):
            stack.append({} if name == "EMPTY_DICT" else [])
        elif name in ("SETITEM", "SETITEMS"):
            items = self.to_mark() if name == "SETITEMS" else [stack.pop(), stack.pop()][::-1]
            self.set_items(items)
        elif name in ("APPEND", "APPENDS"):
            self.append(self.to_mark() if name == "APPENDS" else [stack.pop()])
        elif name == "GLOBAL":
            if argument not in _CALLS and argument not in _DTYPES:
                raise TorchFileError(f"it names {argument[:80]!r}, which is no part of a tensor")
            stack.append(_Name(argument))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop(), self.used))
        elif name == "REDUCE":
            self.call()
        elif name == "BUILD":  # the metadata of a state dict
            if not isinstance(stack.pop(), dict) or not isinstance(stack[-1], dict):
                raise TorchFileError("it changes an object that is no dictionary")
        else:
            raise TorchFileError(f"it has the instruction {name}, which tensors do not need")


def _interpret(file: io.BytesIO, used: dict[str, _Storage] | None = None) -> Any:
    """The value that a pickle builds; the file is left behind it.

    Args:
      file: at the start of the pickle.
      used: takes the storages that it refers to, by name; None does not collect them.
    """
    machine, start = _Machine(used), file.tell()
    for number, (opcode, argument, position) in enumerate(pickletools.genops(file)):
        if number > _MOST_STEPS or (position or 0) - start > _MOST_BYTES:
            raise TorchFileError("its description of the tensors is too long")
        if opcode.name == "STOP":
            break
        if opcode.name == "PROTO":
            if argument != 2:
                raise TorchFileError(f"it is a pickle of protocol {argument}; torch.save writes 2")
            continue
        machine.step(opcode.name, argument)
    if len(machine.stack) != 1 or machine.stack[0] is _MARK:
        raise TorchFileError("its description of the tensors ends too early")
    return machine.stack[0]
