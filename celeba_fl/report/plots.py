"""The pictures of a report, each narrow enough to be read on a phone."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from celeba_fl.common.files import write_bytes
from celeba_fl.evaluation.metrics import ratio
from celeba_fl.report.html import UNKNOWN, Picture, named
from celeba_fl.report.reading import METRICS, NAMES, PARTS, Rows, floats, name_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with every kind of colour vision (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
# So that nothing hangs on colour alone.
DASHES = ("-", "--", "-.", ":")
MARKERS = "osD^vP*X"
REFERENCE = "#555f68"
WIDTH = 4.8  # inches
STYLE: Any = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.edgecolor": REFERENCE,
    "text.parse_math": False,  # names of clients are not ours
}
GAPS = ("demographic_parity", "equal_opportunity", "equalized_odds")


class Album:
    """Pictures of a page; with a folder, they are written there too."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def add(self, name: str, alt: str, caption: str, picture: "Callable[[], Figure]") -> Picture:
        """Draw a picture."""
        return self.keep(f"{name}.png", draw(picture), alt, caption)

    def keep(self, file: str, data: bytes, alt: str, caption: str) -> Picture:
        """Take a picture that is drawn already, PNG or WebP."""
        if self.folder:
            write_bytes(self.folder / file, data)
        return Picture(data, alt, caption)


def draw(picture: "Callable[[], Figure]") -> bytes:
    """PNG of a picture, in our style whatever the user's matplotlib is set to."""
    import matplotlib

    with matplotlib.rc_context(), io.BytesIO() as png:
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        picture().savefig(png, format="png", dpi=200)
        return png.getvalue()


def rounds(rows: Rows, metric: str, reference: Mapping[str, float]) -> "Figure":
    """A metric by round on every split, with level lines to hold the test curve against."""
    figure, axes = _axes(WIDTH, 2.9)
    for part, colour, dash in zip(PARTS, COLOURS, DASHES, strict=False):
        values = floats(rows, f"{part}_{metric}")
        _curve(axes, floats(rows, "round"), values, color=colour, ls=dash, label=PARTS[part])
    for (label, value), dash in zip(reference.items(), (":", "--"), strict=False):
        axes.axhline(value, color="black", ls=dash, lw=1, label=label)
    _finish_rounds(axes, metric)
    return figure


def compared_rounds(runs: Mapping[str, Rows], part: str, metric: str) -> "Figure":
    """A metric of a split by round, one curve a run."""
    figure, axes = _axes(WIDTH, 2.9)
    for i, (name, rows) in enumerate(runs.items()):
        values = floats(rows, f"{part}_{metric}")
        _curve(axes, floats(rows, "round"), values, color=_colour(i), ls=DASHES[i % 4], label=name)
    _finish_rounds(axes, metric)
    return figure


def partitions(rows: Rows, shares: bool = False) -> "Figure":
    """Who holds what: train examples of each client, stacked by group (``Male=1,Young=0``)."""
    figure, axes = _axes(WIDTH, 2.9)
    groups = [key for key in rows[0] if "=" in key]
    counts = np.array([floats(rows, group) for group in groups or ["num_examples"]])
    if shares:
        counts = 100 * ratio(counts, counts.sum(axis=0) + np.zeros_like(counts))
    for i, (bars, top) in enumerate(zip(counts, counts.cumsum(axis=0), strict=True)):
        label = named(groups[i]) if groups else None
        axes.bar(range(len(rows)), bars, 0.9, top - bars, color=_colour(i), label=label)
    step = -(-len(rows) // 12)
    axes.set_xticks(range(0, len(rows), step), [row["client"] for row in rows[::step]])
    axes.grid(axis="x", visible=False)
    axes.set(xlabel="client", ylabel="train examples" + (" (%)" if shares else ""))
    _legend(figure)
    return figure


def attributes(rows: Rows) -> "Figure":
    """Accuracy of each attribute as a bar from what the majority's answer scores."""
    figure, axes = _axes(WIDTH, 0.6 + 0.19 * len(rows), across=True)
    places = range(len(rows))
    accuracy, majority = floats(rows, "accuracy"), floats(rows, "majority_accuracy")
    for over, colour, label in (
        (accuracy >= majority, COLOURS[0], "accuracy, not below the majority"),
        (accuracy < majority, COLOURS[5], "accuracy, below it"),
    ):
        bars = np.where(over, accuracy - majority, np.nan)
        axes.barh(places, bars, 0.55, majority, color=colour)
        axes.plot(np.where(over, accuracy, np.nan), places, "o", ms=4, color=colour, label=label)
    axes.plot(majority, places, "|", ms=9, mew=1.5, color="black", label="majority's answer")
    axes.set_xlabel("share of images answered rightly")
    _name_rows(axes, rows)
    _legend(figure)
    return figure


def ranking(rows: Rows) -> "Figure":
    """Balanced accuracy as a bar from chance, and AUROC, of each attribute."""
    figure, axes = _axes(WIDTH, 0.6 + 0.19 * len(rows), across=True)
    places = range(len(rows))
    axes.axvline(0.5, color="black", lw=1)
    axes.barh(
        places,
        floats(rows, "balanced_accuracy") - 0.5,
        0.55,
        0.5,
        color=COLOURS[4],
        label="balanced accuracy",
    )
    auroc = floats(rows, "auroc")
    axes.plot(auroc, places, "D", ms=3.5, color=COLOURS[5], ls="", label="AUROC")
    axes.set_xlabel("0.5 is chance, and what the majority's answer scores")
    _name_rows(axes, rows)
    _legend(figure)
    return figure


def corrections(rows: Rows) -> "Figure":
    """Answers on each attribute that were fixed, to the right, and broken, to the left."""
    figure, axes = _axes(WIDTH, 0.6 + 0.19 * len(rows), across=True)
    places = range(len(rows))
    fixed, broken = floats(rows, "fixed"), floats(rows, "broken")
    axes.barh(places, fixed, 0.7, color=COLOURS[0], label="fixed")
    axes.barh(places, -broken, 0.7, color=COLOURS[5], label="broken", hatch="///", ec="white", lw=0)
    axes.plot(fixed - broken, places, "D", ms=3.5, color="black", ls="", label="fixed less broken")
    axes.axvline(0, color="black", lw=1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    axes.set_xlabel("test images")
    _name_rows(axes, rows)
    _legend(figure)
    return figure


def compared_attributes(runs: Mapping[str, Rows], metric: str) -> "Figure":
    """A metric of each attribute, one mark a run."""
    first = next(iter(runs.values()))
    names = [row["attribute"] for row in first]
    figure, axes = _axes(WIDTH, 0.7 + 0.19 * len(names), across=True)
    for i, (label, rows) in enumerate(runs.items()):
        by_name = dict(zip((row["attribute"] for row in rows), floats(rows, metric), strict=True))
        values = [by_name.get(name, np.nan) for name in names]
        mark = MARKERS[i % len(MARKERS)]
        axes.plot(values, range(len(names)), mark, ms=4, color=_colour(i), alpha=0.9, label=label)
    axes.set_xlabel(name_of(metric))
    _name_rows(axes, first)
    _legend(figure)
    return figure


def differences(rows: Sequence[tuple[str, float, float, float]], metric: str) -> "Figure":
    """Differences to a reference with their 95 % intervals: name, difference, low and high."""
    figure, axes = _axes(WIDTH, 0.8 + 0.32 * len(rows), across=True)
    axes.axvline(0, color="black", lw=1)
    for place, (_, value, low, high) in enumerate(rows):
        axes.plot([low, high], [place, place], color=COLOURS[0], lw=2)
        axes.plot(value, place, "o", color=COLOURS[0], ms=5)
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"difference in {name_of(metric)}")
    return figure


def gaps(rows: Rows) -> "Figure":
    """Heat map of the differences between groups, attributes by grouping and measure."""
    names = list(dict.fromkeys(row["attribute"] for row in rows))
    groupings = list(dict.fromkeys(row["grouping"] for row in rows))
    cells = np.full((len(names), len(groupings) * len(GAPS)), np.nan)
    for row in rows:
        first = groupings.index(row["grouping"]) * len(GAPS)
        for j, gap in enumerate(GAPS):
            cells[names.index(row["attribute"]), first + j] = floats([row], f"{gap}_difference")[0]
    figure, axes = _axes(WIDTH, 1.3 + 0.19 * len(names))
    axes.set_facecolor("#e4e6e8")
    image = axes.imshow(cells, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(cells):
        text = f"{100 * value:.0f}" if value == value else UNKNOWN
        colour = "white" if value > 0.6 else "black"
        axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=6.5)
    short = ["parity", "opportunity", "odds"] * len(groupings)
    axes.set_xticks(range(len(short)), short, rotation=45, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    for i, grouping in enumerate(groupings):
        axes.text(
            (i + 0.5) / len(groupings),
            -0.012,
            named(grouping),
            transform=axes.transAxes,
            ha="center",
            va="top",
            weight="bold",
        )
        axes.axvline(len(GAPS) * i - 0.5, color="white", lw=4)
    axes.set_yticks(range(len(names)), [named(name) for name in names])
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    label = "difference between the groups (percentage points)"
    bar = figure.colorbar(image, ax=axes, location="bottom", label=label, aspect=40, pad=0.04)
    bar.ax.set_xticks(np.linspace(0, 1, 6), [f"{100 * x:.0f}" for x in np.linspace(0, 1, 6)])
    return figure


def clients(rows: Rows, metric: str) -> "Figure":
    """A validation metric of each client over the number of its train examples."""
    figure, axes = _axes(WIDTH, 2.9)
    x, y = floats(rows, "num_examples"), floats(rows, f"valid_{metric}")
    axes.plot(x, y, "o", ms=5, color=COLOURS[0], alpha=0.6, mec="white", mew=0.5)
    axes.axhline(np.nanmedian(y), color="black", lw=1, ls="--", label="median of the clients")
    axes.set(xlabel="train examples of the client", ylabel=f"validation {name_of(metric)}")
    axes.set_xlim(left=0)
    _legend(figure)
    return figure


def sweep(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], metric: str) -> "Figure":
    """The metric that ranks a grid by its first key, a line for each value of the other keys.

    Parameters
    ----------
    rows : Sequence[Mapping[str, Any]]
        Of `sweep.csv`, the best first.
    keys : Sequence[str]
        The run-config keys that the grid varies.
    metric : str
        The column that ranks.
    """
    figure, axes = _axes(WIDTH, 3.2)
    first, *others = keys
    known = [row for row in rows if row[metric] is not None]
    spread = any(row[f"{metric}_std"] for row in known)
    ticks = sorted({row[first] for row in known})
    lines: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in sorted(known, key=lambda row: [row[key] for key in (*others, first)]):
        lines.setdefault(tuple(row[key] for key in others), []).append(row)
    for i, (values, line) in enumerate(lines.items()):
        axes.errorbar(
            [ticks.index(row[first]) for row in line],
            [row[metric] for row in line],
            [row[f"{metric}_std"] or 0 for row in line] if spread else None,
            color=_colour(i),
            ls=DASHES[i % len(DASHES)],
            marker=MARKERS[i % len(MARKERS)],
            ms=5,
            capsize=3,
            label=", ".join(f"{key} {value}" for key, value in zip(others, values, strict=True)),
        )
    best = ticks.index(known[0][first]), known[0][metric]
    axes.plot(*best, "o", ms=13, mfc="none", mec="black", ls="", label="best")
    axes.set_xticks(range(len(ticks)), [str(tick) for tick in ticks])
    axes.margins(0.1)
    part = max((part for part in PARTS if metric.startswith(part)), key=len)
    axes.set(xlabel=first, ylabel=f"{name_of(metric.removeprefix(f'{part}_'))}, {PARTS[part]}")
    _legend(figure)
    return figure


def client_spread(rows: Rows, metric: str) -> "Figure":
    """Quantiles over the clients of a validation metric, by round."""
    figure, axes = _axes(WIDTH, 2.9)
    numbers, (low, lower, median, upper, high) = client_quantiles(rows, metric)
    axes.fill_between(numbers, low, high, color=COLOURS[4], alpha=0.3, label="middle 80 %")
    axes.fill_between(numbers, lower, upper, color=COLOURS[4], alpha=0.8, label="middle half")
    axes.plot(numbers, median, color=COLOURS[0], lw=2, label="median of the clients")
    _finish_rounds(axes, metric)
    axes.set_ylabel(f"validation {name_of(metric)}")
    return figure


def client_quantiles(rows: Rows, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Rounds, and 10, 25, 50, 75 and 90 % quantiles of a validation metric over the clients.

    The quantiles have the shape (5, rounds).
    """
    numbers, values = floats(rows, "round"), floats(rows, f"valid_{metric}")
    rounds = np.unique(numbers)
    parts = (0.1, 0.25, 0.5, 0.75, 0.9)
    return rounds, np.array([np.quantile(values[numbers == r], parts) for r in rounds]).T


def epochs(rows: Rows, columns: Mapping[str, str]) -> "Figure":
    """Columns of `epochs.csv`, by the names they get: median and range over the clients."""
    figure, axes = _axes(WIDTH, 2.9)
    each = max(int(row["epoch"]) for row in rows)
    at = np.array([(int(row["round"]) - 1) * each + int(row["epoch"]) for row in rows])
    x = np.unique(at)
    for i, (column, name) in enumerate(columns.items()):
        known = floats(rows, column)
        low, median, high = np.array([np.quantile(known[at == e], (0, 0.5, 1)) for e in x]).T
        axes.fill_between(x, low, high, color=_colour(i), alpha=0.25, lw=0)
        axes.plot(x, median, color=_colour(i), ls=DASHES[i % len(DASHES)], lw=1.5, label=name)
    axes.set(xlabel="local epoch, round after round", ylabel=name_of("loss"))
    _legend(figure)
    return figure


def group_rates(shown: Sequence[tuple[str, Rows]]) -> "Figure":
    """TPR and FPR with their intervals, of each group of some titled sets of groups."""
    figure, axes = _axes(WIDTH, 0.7 + 0.19 * sum(len(rows) + 1.5 for _, rows in shown), across=True)
    place, places = 0.0, []
    for title, rows in shown:
        axes.text(0, place, title, va="center", weight="bold")
        places += [place + 1 + i for i in range(len(rows))]
        place = places[-1] + 1.5
    groups = [row for _, rows in shown for row in rows]
    for rate, mark, colour, shift in (("tpr", "o", 0, -0.15), ("fpr", "s", 5, 0.15)):
        at = np.array(places) + shift
        value, low, high = (floats(groups, f"{rate}{end}") for end in ("", "_low", "_high"))
        axes.hlines(at, low, high, color=COLOURS[colour], lw=1.2)
        axes.plot(value, at, mark, color=COLOURS[colour], ms=4, label=NAMES[rate])
    axes.set_yticks(places, [named(row["group"]) for row in groups])
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(place - 1, -0.8), xlabel="rate")
    _legend(figure)
    return figure


def by_prevalence(rows: Rows) -> Rows:
    """Attributes as they are drawn: the rarest last, so that their bars tell of imbalance."""
    share = floats(rows, "positives") / floats(rows, "n")
    return [rows[i] for i in np.argsort(-share, kind="stable")]


def _axes(width: float, height: float, across: bool = False) -> "tuple[Figure, Axes]":
    """A figure without a window, whatever matplotlib's backend is."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x" if across else "y", color="#ddd", lw=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _curve(axes: "Axes", x: np.ndarray, y: np.ndarray, **style: object) -> None:
    known = ~np.isnan(y)
    if known.any():
        axes.plot(x[known], y[known], marker="o", ms=2.5, lw=1.5, **style)  # type: ignore[arg-type]


def _finish_rounds(axes: "Axes", metric: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.set(xlabel="round", ylabel=name_of(metric))
    _legend(axes.figure)  # type: ignore[arg-type]


def _legend(figure: "Figure") -> None:
    """Above the axes, where it hides nothing."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    longest = max(map(len, labels), default=0)
    if labels:
        columns = 1 if longest > 34 else 2
        figure.legend(handles, labels, loc="outside upper center", frameon=False, ncols=columns)


def _name_rows(axes: "Axes", rows: Rows) -> None:
    """Attributes from the top down."""
    axes.set_yticks(range(len(rows)), [named(row["attribute"]) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def first_metrics(names: Sequence[str], number: int) -> list[str]:
    """The metrics to draw: those that people look at first, or a task's own."""
    known = [name for name in METRICS if name in names]
    own = [name for name in names if not name.startswith(("majority", "real"))]
    return (known or own)[:number]
