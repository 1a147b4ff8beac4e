"""How a report writes figures and names, for people."""

from collections.abc import Callable

UNKNOWN = "\N{EN DASH}"

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
    """An attribute, a group or a grouping, in words that a line can break between."""
    return raw.replace("_", " ").replace(",", ", ")


def seconds(value: float) -> str:
    """A duration for people."""
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"
