"""Pages from templates: everything in them is escaped but the figures that were drawn here."""

import base64
import contextlib
import functools
import io
import json
import re
import warnings
from collections.abc import Iterator
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.text import Text

from ltjax.errors import one_line, visible

# Without these entries Matplotlib writes no metadata, and the same figure gives the same bytes.
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def svg(figure: Figure, title: str) -> Markup:
    """A figure as an SVG element that takes the page's text color; its background is clear.

    Args:
      figure: drawn by this package; Matplotlib escapes the text in it.
      title: what it shows, for readers who cannot see it; distinct within a page.

    Returns:
      The element.
    """
    buffer = io.StringIO()
    # Text stays text, so that the reader's fonts show it in any script. The salt makes
    # identifiers the same in every call, and distinct between figures of a page.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}), _any_script():
        figure.savefig(buffer, format="svg", metadata=NO_METADATA, transparent=True)
    text = visible(buffer.getvalue())
    text = text[text.index("<svg") :].replace("stroke: #000000", "stroke: currentColor")
    opening = f'<svg role="img" aria-label="{escape(title)}" fill="currentColor" '
    return Markup(opening + text.removeprefix("<svg "))


def png(figure: Figure) -> bytes:
    """A figure as the content of a PNG file of 150 dots per inch.

    Args:
      figure: the figure.

    Returns:
      The file's bytes.
    """
    texts = figure.findobj(Text)
    letters = {letter for text in texts for letter in text.get_text() if letter.isprintable()}
    families = [*mpl.rcParams["font.family"], *_families(frozenset(letters))]
    for text in texts:
        text.set_fontfamily(families)
    buffer = io.BytesIO()
    with _any_script():
        figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


@functools.cache
def _families(letters: frozenset[str]) -> tuple[str, ...]:
    """Fonts of this system for the letters that Matplotlib's own font lacks, as far as it has them.

    A page needs none: the browser finds fonts itself.
    """
    own = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    missing = {ord(letter) for letter in letters} - own.get_charmap().keys()
    paths = font_manager.findSystemFonts() if missing else []
    found: list[str] = []
    for path in sorted(paths, key=lambda path: ("Sans" not in path, "Regular" not in path, path)):
        with contextlib.suppress(OSError, RuntimeError):  # not a font that Matplotlib can read
            font = font_manager.get_font(path)
            if font.scalable and missing & font.get_charmap().keys():
                font_manager.fontManager.addfont(path)
                found.append(font.family_name)
                missing -= font.get_charmap().keys()
    return tuple(found)


def picture(image: np.ndarray) -> str:
    """An image as the address of an HTML `img`, which holds its pixels as a PNG.

    Args:
      image: uint8 `[H, W, 1]` or `[H, W, 3]`.

    Returns:
      A `data:` address.

    >>> picture(np.zeros((1, 1, 3), np.uint8))[:22]
    'data:image/png;base64,'
    """
    buffer = io.BytesIO()
    pixels = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
    imsave(buffer, np.ascontiguousarray(pixels), format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@contextlib.contextmanager
def _any_script() -> Iterator[None]:
    """Matplotlib warns of letters that its font lacks; in a page the reader's fonts have them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


# Emphasis, code, links, tables, mathematics; then what becomes a link or an address by itself.
_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)")
_LINK = re.compile(r":(?=//)|(?<=www)\.|@", re.IGNORECASE)


def _for_markdown(value: object) -> str:
    """Text that Markdown shows as it is, on one line of a table or paragraph.

    >>> _for_markdown("<b> | [a](http://b.c)")
    '&lt;b> \\\\| \\\\[a\\\\](http&#58;//b.c)'
    """
    text = one_line(value).replace("&", "&amp;").replace("<", "&lt;")
    text = _MARKUP.sub(lambda found: f"\\{found[0]}", text)
    return _LINK.sub(lambda found: f"&#{ord(found[0])};", text)


def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("ltjax.report"),
        autoescape=lambda name: name is None or name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["json"] = lambda value, indent=None: json.dumps(
        value, indent=indent, ensure_ascii=False
    )
    found.filters["markdown"] = _for_markdown
    found.filters["one_line"] = one_line
    return found


def render(template: str, **values: Any) -> str:
    """Fills a template of `ltjax/report/templates`.

    Args:
      template: its file name; values are escaped in `.html.j2`, but not in `.md.j2`.
      **values: what it shows.

    Returns:
      The page.
    """
    return visible(_environment().get_template(template).render(**values))
