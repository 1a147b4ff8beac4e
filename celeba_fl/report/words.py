"""How a report writes figures and names, for people."""

import re
import textwrap
from collections.abc import Callable

UNKNOWN = "\N{EN DASH}"

# Groups by attributes of which there are words for both.
GROUPS = {"Male=1": "men", "Male=0": "women", "Young=1": "young", "Young=0": "older"}
# A path from the root or from home, of two names at least; no URL, and nothing such as and/or.
PATH = re.compile(r"""(?<![\w.:/~])(?:~|(?:/[^\s/'"<>|,;:()\[\]]+))+/([^\s/'"<>|,;:()\[\]]+)/?""")
# Of a long reason, so many characters stand in a sentence.
REASON_LENGTH = 160
# No interval.
NONE = (float("nan"), float("nan"))


def figure(value: float) -> str:
    """A metric."""
    return f"{value:.3f}" if value == value else UNKNOWN


def difference(value: float) -> str:
    """A difference of metrics, with its sign."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}") if value == value else UNKNOWN


def between(low: float, high: float, write: Callable[[float], str] = figure) -> str:
    """An interval; nothing where there is none."""
    return f"[{write(low)}, {write(high)}]" if low == low and high == high else ""


def chance(p: float) -> str:
    """A p-value."""
    return "< 0.001" if p < 0.001 else figure(p)


def sentence(text: str) -> str:
    """With a capital first letter."""
    return text[:1].upper() + text[1:]


def named(raw: str) -> str:
    """An attribute, a group or a grouping, in words that a line can break between.

    A group such as ``Male=0,Young=1`` is called what its people were called: women, young.
    """
    return ", ".join(GROUPS.get(one) or _group(one) for one in raw.split(",")).replace("_", " ")


def _group(raw: str) -> str:
    name, _, value = raw.rpartition("=")
    if name == "label":  # of classes
        return value
    return {"1": name, "0": f"not {name}"}.get(value, raw) if name else raw


def in_short(reason: str) -> str:
    """A reason within a sentence: of a long one, or of several lines, the first words alone."""
    whole = " ".join(reason.split())
    line = " ".join(next(iter(reason.strip().splitlines()), "").split())
    line = textwrap.shorten(line, REASON_LENGTH, placeholder="") or line[:REASON_LENGTH]
    if line == whole:
        return line.rstrip(".")
    return f"{line.rstrip('.:;, ')} \N{HORIZONTAL ELLIPSIS}, the rest stands below"


def without_folders(text: str) -> str:
    """A text for others: of a path on this machine the last name is left."""
    return PATH.sub("\N{HORIZONTAL ELLIPSIS}/\\1", text)


def seconds(value: float) -> str:
    """A duration for people."""
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"
