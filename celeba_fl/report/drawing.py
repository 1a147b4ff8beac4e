"""A process that draws: it reads requests, a line of JSON each, and answers each with an SVG.

vl-convert holds Python's lock while it draws. In a process of its own it draws on another core, and
what it has to load is loaded while the run is still going on.
"""

import atexit
import json
import subprocess
import sys
from functools import cache
from threading import Lock
from typing import Any

# Lines and bars with a legend: a first picture takes as long as five others.
WARM_UP = {
    "data": {"values": [{"x": 0, "y": 1, "series": "a"}, {"x": 1, "y": 2, "series": "b"}]},
    "encoding": {"x": {"field": "x", "type": "quantitative"}, "color": {"field": "series"}},
    "layer": [
        {"mark": mark, "encoding": {"y": {"field": "y", "type": kind}}}
        for mark, kind in (("line", "quantitative"), ("point", "quantitative"), ("bar", "nominal"))
    ],
}


class Drawer:
    """The process, as seen by the one that asks."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],  # by its path: it may lie in a bundle
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the run
        )
        self._lock = Lock()
        atexit.register(self._process.communicate)  # it ends with its input

    def draw(self, **request: Any) -> str:
        """SVG of a request, which are the arguments of `vl_convert.vegalite_to_svg`."""
        told, answers = self._process.stdin, self._process.stdout
        assert told is not None
        assert answers is not None
        with self._lock:
            told.write(json.dumps(request) + "\n")
            told.flush()
            line = answers.readline()
        answer = json.loads(line or '{"error": "the process that draws has ended"}')
        if "error" in answer:
            raise ValueError(answer["error"])
        return str(answer["svg"])


@cache
def drawer() -> Drawer:
    """The one of this process; it starts, and loads what draws, when this is called first."""
    return Drawer()


def _answer(line: str) -> dict[str, str]:
    import vl_convert

    try:
        return {"svg": vl_convert.vegalite_to_svg(**json.loads(line))}
    except Exception as error:
        return {"error": repr(error)}


if __name__ == "__main__":
    _answer(json.dumps({"vl_spec": WARM_UP}))
    for line in sys.stdin:
        print(json.dumps(_answer(line)), flush=True)
