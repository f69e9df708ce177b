"""Pickles from strangers, read as data: of their language, only what writes values down; nothing is ever called.

CIFAR's Python files are pickles. An unpickler, however restricted, imports names, calls what it finds, and makes room
for any memo number a file asks for. Here the standard library's own lexer splits a pickle into its instructions, and
those that build bytes, text, numbers, lists, tuples, dicts and arrays of bytes are carried out; any other is refused.
"""

import pickletools
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tamis.sources.entries import EntryError
from tamis.sources.names import shown

Value: TypeAlias = Any

# CIFAR-100's 50,000 images take 300,000.
MAX_INSTRUCTIONS = 2**21

_DTYPE = ("numpy", "dtype")
_NDARRAY = ("numpy", "ndarray")
_RECONSTRUCT = {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}
# How Python 3 writes bytes for Python 2: as Latin-1 text to be encoded.
_ENCODE = ("_codecs", "encode")
_KNOWN = {_DTYPE, _NDARRAY, _ENCODE, *_RECONSTRUCT}

_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS: dict[str, Value] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass
class _Called:
    """A call that was asked for and not made, with the state it was to be given."""

    name: tuple[str, str]
    arguments: tuple[Value, ...]
    state: tuple[Value, ...] = ()


@dataclass
class _Machine:
    """What instructions work on. encodable: how much text may still become bytes; no honest pickle repeats any."""

    stack: list[Value]
    memo: dict[int, Value]
    encodable: int


_MARK = object()


def read_pickle(data: bytes) -> Value:
    """The value: dicts, lists and tuples of bytes, str, int, float, bool, None and what `read_array` takes.

    Byte strings of Python 2 are bytes. Raises EntryError for a pickle that is damaged or asks for anything else.
    """
    machine = _Machine([], {}, len(data))
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if number > MAX_INSTRUCTIONS:
                raise EntryError(f"its pickle has more than {MAX_INSTRUCTIONS} instructions")
            if opcode.name == "STOP":
                return machine.stack.pop()
            _carry_out(opcode.name, argument, machine)
    except EntryError:
        raise
    # Whatever a damaged pickle makes the lexer and the stack stumble on.
    except Exception as error:
        raise EntryError(f"its pickle is damaged ({type(error).__name__})") from error
    raise EntryError("its pickle is damaged (no end)")


def read_array(value: Value) -> npt.NDArray[np.uint8]:
    """The array of bytes that a value of `read_pickle` stands for. Raises EntryError if it is another thing."""
    try:
        if value.name not in _RECONSTRUCT:
            raise EntryError("it holds no array where one should be")
        # What numpy writes: version, shape, type, whether in Fortran's order, and the bytes.
        _, shape, kind, fortran, data = value.state
        if kind.name != _DTYPE or _typed(kind.arguments[0], str, bytes) not in {"u1", b"u1", "|u1", b"|u1"}:
            raise EntryError("its array is not of bytes")
        return np.frombuffer(_typed(data, bytes), np.uint8).reshape(shape, order="F" if fortran else "C")
    except (AttributeError, IndexError, OverflowError, TypeError, ValueError) as error:
        raise EntryError(f"its array is damaged ({type(error).__name__})") from error


def _carry_out(name: str, argument: Value, machine: _Machine) -> None:
    stack, memo = machine.stack, machine.memo
    if name in {"PROTO", "FRAME"}:
        return
    if name in _LITERALS:
        # The lexer gives byte strings of Python 2 as Latin-1 text.
        stack.append(argument.encode("latin-1") if name.endswith("STRING") else argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in _EMPTY:
        stack.append(_EMPTY[name]())
    elif name == "MARK":
        stack.append(_MARK)
    elif name in {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}:
        memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
    elif name in {"GET", "BINGET", "LONG_BINGET"}:
        stack.append(memo[argument])
    elif name == "TUPLE":
        stack.append(tuple(_marked(stack)))
    elif name in _TUPLES:
        items = stack[-_TUPLES[name] :]
        del stack[-_TUPLES[name] :]
        stack.append(tuple(items))
    elif name in {"APPEND", "APPENDS"}:
        items = [stack.pop()] if name == "APPEND" else _marked(stack)
        _typed(stack[-1], list).extend(items)
    elif name in {"SETITEM", "SETITEMS"}:
        items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else _marked(stack)
        keys = [_typed(key, bytes, str, int) for key in items[::2]]
        _typed(stack[-1], dict).update(zip(keys, items[1::2], strict=True))
    elif name in {"GLOBAL", "STACK_GLOBAL"}:
        module, attribute = argument.split(" ", 1) if name == "GLOBAL" else (stack.pop(-2), stack.pop())
        stack.append(_named(_typed(module, str), _typed(attribute, str)))
    elif name == "REDUCE":
        arguments = _typed(stack.pop(), tuple)
        stack.append(_call(stack.pop(), arguments, machine))
    elif name == "BUILD":
        state = _typed(stack.pop(), tuple)
        _typed(stack[-1], _Called).state = state
    else:
        raise EntryError(f"its pickle holds the instruction {name}, which no list of images needs; it was not read on")


def _named(module: str, attribute: str) -> _Called:
    if (module, attribute) not in _KNOWN:
        raise EntryError(f"its pickle asks for {shown(f'{module[:99]}.{attribute[:99]}')}, which was not run")
    return _Called((module, attribute), ())


def _call(function: Value, arguments: tuple[Value, ...], machine: _Machine) -> Value:
    name = _typed(function, _Called).name
    if name == _ENCODE:
        machine.encodable -= len(_typed(arguments[0], str))
        if machine.encodable < 0:
            raise EntryError("its pickle asks for more bytes than it has")
        return arguments[0].encode("latin-1")
    return _Called(name, arguments)


def _marked(stack: list[Value]) -> list[Value]:
    place = len(stack) - 1
    while stack[place] is not _MARK:
        place -= 1
    items = stack[place + 1 :]
    del stack[place:]
    return items


def _typed(value: Value, *kinds: type) -> Value:
    if not isinstance(value, kinds):
        raise EntryError("its pickle is damaged (a value of another kind than its place)")
    return value
