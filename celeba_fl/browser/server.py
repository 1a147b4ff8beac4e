"""The page's server: its files, its graphs, and the way of its calls to a SuperLink."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from celeba_fl.browser.connection import SuperLink
from celeba_fl.browser.guard import Guard
from celeba_fl.browser.try_out import Tickets
from celeba_fl.common.errors import InputError
from celeba_fl.common.files import hash_file
from celeba_fl.deployment.front import CALLS, SMALL, passing

PAGE = Path(__file__).with_name("page")
# A node whose key is not registered, where none is needed, makes itself known by these two.
TAB_CALLS = {**CALLS, "register-node": SMALL, "unregister-node": SMALL}
# What a stranger could have this machine keep: weights of so many bytes, and so many graphs.
MOST_WEIGHTS, MOST_GRAPHS = 400 * 10**6, 32
WEIGHTS_SECONDS = 300.0  # in which weights have come, for others wait for their turn
BINARY = "application/octet-stream"


@dataclass(frozen=True)
class Served:
    """What the page is served with."""

    superlink: SuperLink
    home: Path
    runtime: Path  # folder of ONNX Runtime Web
    names: tuple[str, ...]  # host names by which a browser may look for it
    drawn: bool = True  # whether drawn faces are handed out
    tickets: Tickets | None = None


def make_app(served: Served, carrier: httpx.AsyncBaseTransport) -> Guard:
    """The page's app; a transport carries what goes to the SuperLink."""
    graphs = Graphs(served.home)

    async def about(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(_about, served))

    routes: list[BaseRoute] = [
        passing(carrier, served.superlink.url, TAB_CALLS),
        Route("/about.json", about),
        Route("/onnx/view.json", graphs.view),
        Route("/onnx/head-step.onnx", graphs.head_step),
        Route("/onnx/backbone/{weights}", graphs.keep_weights, methods=["PUT"]),
        Route("/onnx/backbone/{weights}/{features}/{size:int}.onnx", graphs.backbone),
        Mount("/ort", StaticFiles(directory=served.runtime)),
    ]
    if served.drawn:
        routes.append(Route("/try/{number:int}/{of:int}.{form}", _drawn(served.home)))
    if served.tickets is not None:
        routes.append(Route("/try/node", _admission(served.tickets), methods=["POST"]))
    routes.append(Mount("/", StaticFiles(directory=PAGE, html=True)))
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _said,
            InputError: _refused,
            ClientDisconnect: lambda _, __: Response(status_code=400),
        },
    )
    app.router.redirect_slashes = False
    return Guard(app, served.names)


def _about(served: Served) -> dict[str, Any]:
    """What the page is told of this code, and of the SuperLink."""
    import flwr

    from celeba_fl.common.bundle import PACKAGE, app_version, code_hash
    from celeba_fl.config import RunConfig
    from celeba_fl.data.schema import ATTRIBUTES
    from celeba_fl.evaluation.bins import EDGES
    from celeba_fl.report.words import named
    from celeba_fl.teach.questions import DEFINITIONS

    return {
        "celeba_fl": app_version(),
        "flwr": flwr.__version__,
        "code": code_hash(),
        "path": str(PACKAGE),
        "address": served.superlink.address,
        "register": (
            f"echo '{{key}}' > site.pub && flwr supernode register site.pub {served.superlink.name}"
        ),
        "attributes": [
            {"name": name, "words": named(name), "meaning": DEFINITIONS[name]}
            for name in ATTRIBUTES
        ],
        "bins": EDGES.tolist(),
        "view": _view(RunConfig.defaults()),
        "keys": {
            name: {**asdict(rules), "type": type(rules.default).__name__}
            for name, rules in RunConfig.keys().items()
        },
    }


def _view(config: Any) -> dict[str, Any]:
    """The view that these run-config keys describe."""
    from celeba_fl.vision.features import preprocessing_hash
    from celeba_fl.vision.views import make_view

    size = int(config["image-size"])
    view = make_view(config["backbone"], config["features"], size, config["weights"])
    return {
        "backbone": view.backbone,
        "features": view.features,
        "image_size": view.image_size,
        "dim": view.dim,
        "preprocessing": preprocessing_hash(view),
    }


class Graphs:
    """The routes of what is computed in the tab: one is made at a time."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._one, self._receiving = asyncio.Lock(), asyncio.Lock()
        self._made: set[tuple[str, str, str, int]] = set()
        self._kept = 0  # bytes of weights

    async def view(self, request: Request) -> Response:
        """The view of a run, by its keys."""
        query = dict(request.query_params)
        if {*query} != {"backbone", "features", "image-size", "weights"} or not (
            query["image-size"].isdecimal() and len(query["image-size"]) < 6
        ):
            raise InputError("view: needs backbone, features, image-size and weights of the run")
        return JSONResponse(await run_in_threadpool(_view, query))

    async def head_step(self, request: Request) -> Response:
        """The graph of a step of training."""
        from celeba_fl.models.head_graph import head_step

        async with self._one:
            graph = await run_in_threadpool(head_step, request.query_params.get("optimizer", ""))
        return Response(graph, media_type=BINARY)

    async def backbone(self, request: Request) -> Response:
        """The graph that the Python clients have."""
        from celeba_fl.vision.views import make_view
        from celeba_fl.vision.weights import weights_path

        said, backbone = request.path_params, request.query_params.get("backbone", "")
        weights = _hash(said["weights"])
        view = await run_in_threadpool(make_view, backbone, said["features"], said["size"])
        if not weights_path(self.home, weights).exists():
            raise HTTPException(404, f"weights {weights}: are not on the machine that serves this")
        from celeba_fl.vision.extractor import onnx_file

        graph = weights, backbone, view.features, view.image_size
        async with self._one:
            if graph not in self._made and len(self._made) >= MOST_GRAPHS:
                raise HTTPException(503, "too many backbones; start celeba-fl browser again")
            file = await run_in_threadpool(onnx_file, self.home, view, weights)
            self._made.add(graph)
        digest = base64.b64encode(bytes.fromhex(await run_in_threadpool(hash_file, file))).decode()
        return FileResponse(file, media_type=BINARY, headers={"repr-digest": f"sha-256=:{digest}:"})

    async def keep_weights(self, request: Request) -> Response:
        """Keep a backbone's weights, which a tab has got from the SuperLink.

        All tabs of a run may get them at once: the first one's are kept, one after the other.
        """
        from celeba_fl.vision.weights import keep_weights, weights_path

        weights = _hash(request.path_params["weights"])
        async with self._receiving:
            known = weights_path(self.home, weights).exists()
            try:
                async with asyncio.timeout(WEIGHTS_SECONDS):
                    data = await _body(request, MOST_WEIGHTS - (0 if known else self._kept))
            except TimeoutError:
                raise HTTPException(408) from None
            if not known:
                await run_in_threadpool(keep_weights, self.home, weights, data)
                self._kept += len(data)
        return Response(status_code=204)


def _drawn(home: Path) -> Callable[[Request], Awaitable[Response]]:
    """The route of a partition of drawn faces."""
    from celeba_fl.browser.try_out import partition

    async def drawn(request: Request) -> Response:
        said, dealing = request.path_params, tuple(sorted(request.query_params.items()))
        if said["form"] not in ("json", "bin"):
            raise HTTPException(404)
        held = await run_in_threadpool(partition, home, said["number"], said["of"], dealing)
        if said["form"] == "bin":
            return Response(held[1], media_type=BINARY)
        return JSONResponse({"name": str(said["number"]), "pictures": held[0]})

    return drawn


def _admission(tickets: Tickets) -> Callable[[Request], Awaitable[Response]]:
    """The route by which a tab has its key registered, in a try on one machine."""

    async def admit(request: Request) -> Response:
        try:
            said = json.loads(await _body(request, SMALL))
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise InputError("body: should be JSON with ticket and key")
        await run_in_threadpool(tickets.use, said)
        return Response(status_code=204)

    return admit


async def _body(request: Request, limit: int) -> bytes:
    """The body of a request, of so many bytes at most."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HTTPException(413, f"more than {limit} bytes")
    return bytes(body)


def _hash(text: str) -> str:
    """The SHA-256 in a path: 64 digits, so that it cannot name another file."""
    if len(text) != 64 or not {*text} <= {*"0123456789abcdef"}:
        raise HTTPException(404, "weights: should be a SHA-256, 64 digits of 0-9 and a-f")
    return text


async def _said(request: Request, error: Exception) -> Response:
    """A status, and one sentence where there is one to say."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)
