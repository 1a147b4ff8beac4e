"""A process that draws: its requests are charts, its answers SVG.

vl-convert holds Python's lock while it draws. In a process of its own it draws on another core, and
what it has to load is loaded beforehand.
"""

from contextlib import suppress
from functools import cache
from typing import Any

from celeba_fl.report.helper import Helper, serve

# Lines and bars with a legend: a first picture takes as long as five others.
WARM_UP = {
    "data": {"values": [{"x": 0, "y": 1, "series": "a"}, {"x": 1, "y": 2, "series": "b"}]},
    "encoding": {"x": {"field": "x", "type": "quantitative"}, "color": {"field": "series"}},
    "layer": [
        {"mark": mark, "encoding": {"y": {"field": "y", "type": kind}}}
        for mark, kind in (("line", "quantitative"), ("point", "quantitative"), ("bar", "nominal"))
    ],
}


@cache
def drawer() -> Helper:
    """The one of this process; it starts, and loads what draws, when this is called first.

    It is asked with the arguments of `vl_convert.vegalite_to_svg`, and answers with an ``svg``.
    """
    return Helper("celeba_fl.report.drawing")


def _draw(**chart: Any) -> dict[str, str]:
    import vl_convert

    return {"svg": vl_convert.vegalite_to_svg(**chart)}


if __name__ == "__main__":
    with suppress(Exception):  # then each request says why
        _draw(vl_spec=WARM_UP)
    serve(_draw)
