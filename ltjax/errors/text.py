"""Text from outside, made fit for a line of a message, of a terminal or of a figure."""

import codecs
import unicodedata
from collections.abc import Sequence
from typing import TextIO

# These reorder the letters around them: a name could show itself as another.
_REORDERING = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
_PLAIN = {"–": "-", "±": "+-", "…": "...", "→": "->"}


def _unprintable(letter: str) -> bool:
    """Control characters, halves of surrogate pairs, and what XML and terminals take amiss."""
    if unicodedata.category(letter) in ("Cc", "Cs") or letter in _REORDERING:
        return True
    code = ord(letter)
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF  # Unicode calls them no characters


def _escaped(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()


def visible(text: str) -> str:
    """Text whose control characters and broken letters, but for line breaks, are visible escapes.

    Args:
      text: any text.

    Returns:
      The same, fit for UTF-8, XML and a terminal.

    >>> visible("two\\nlines \\x1b[2J")
    'two\\nlines \\\\x1b[2J'
    """
    letters = set(text) - {"\n"}
    return text.translate({ord(c): _escaped(c) for c in letters if _unprintable(c)})


def one_line(text: object, *, most: int | None = None) -> str:
    """Text on one line, in which control characters and broken letters are visible escapes.

    It can be printed on a terminal, written as UTF-8 and put into XML. White space becomes single
    spaces.

    Args:
      text: any text, or what `str` makes one of.
      most: largest number of characters; a longer text keeps its beginning and its end.

    Returns:
      The line.

    >>> one_line("a\\nb \\x1b[2J \\udcff")
    'a b \\\\x1b[2J \\\\xff'
    >>> one_line("the path of the file: the cause", most=22)
    'the path … the cause'
    """
    letters = visible(" ".join(str(text).split()))
    if most is None or len(letters) <= most:
        return letters
    first = (most - 3) // 2
    return f"{letters[:first].rstrip()} … {letters[len(letters) - (most - 3 - first) :].lstrip()}"


def shown(value: object) -> str:
    """A value as a message names it: its `repr` on one line, cut in the middle if it is long.

    Args:
      value: anything, also what has no `repr`.

    Returns:
      The line.

    >>> shown("a\\nb"), shown(0.5)
    ("'a\\\\nb'", '0.5')
    """
    try:
        text = repr(value)
    except Exception:  # of a stranger's class; of an integer with more than 4300 digits
        text = f"a value of type {type(value).__name__}"
    return one_line(text, most=200)


def some_of(names: Sequence[str], *, most: int = 5) -> str:
    """The first of several names, and how many more there are.

    Args:
      names: at least one.
      most: how many to name.

    Returns:
      The words.

    >>> some_of(["a", "b", "c"], most=2), some_of(["a"])
    ('a, b and 1 more', 'a')
    """
    first = ", ".join(one_line(name, most=80) for name in names[:most])
    return f"{first} and {len(names) - most} more" if len(names) > most else first


def _fallback(error: UnicodeError) -> tuple[str, int]:
    """A replacement for letters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(
        _PLAIN.get(c, c.encode("ascii", "backslashreplace").decode()) for c in lacking
    ), error.end


def print_any_text(*streams: TextIO | None) -> None:
    """Makes streams print letters that their encoding lacks as escapes, where they would fail.

    Args:
      *streams: the standard output and the standard error; None and others are left alone.
    """
    codecs.register_error("ltjax", _fallback)
    for stream in streams:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="ltjax")
