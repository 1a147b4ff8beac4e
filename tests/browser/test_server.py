"""The routes of the page's server."""

import asyncio
import base64
import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from page_server import ORIGIN, Browser, Page

from celeba_fl.browser import server
from celeba_fl.browser.server import PAGE, TAB_CALLS
from celeba_fl.common.bundle import code_hash
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data import sources
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.data.table import Table
from celeba_fl.tasks.client_data import ClientData

VIEW = {"backbone": "mobilenet_v2", "weights": "drawn", "features": "fast", "image-size": "0"}
WEIGHTS = "ab" * 32


@pytest.fixture
def client(page: Page) -> Browser:
    return page.client()


@pytest.mark.parametrize("name", TAB_CALLS)
def test_a_call_goes_to_the_superlink_and_its_answer_back(
    name: str, client: Browser, page: Page
) -> None:
    page.answer = lambda: httpx.Response(
        403, content=b"no", headers={"content-type": "application/json", "set-cookie": "a=b"}
    )
    said = {"flwr-signature": "s", "cookie": "a=b", "connection": "x-own", "x-own": "1"}
    answer = client.post(f"/v1/fleet/{name}", content=b"body", headers=said)
    (asked,) = page.asked
    assert str(asked.url) == f"https://there/v1/fleet/{name}"
    assert (asked.content, asked.headers["flwr-signature"]) == (b"body", "s")
    assert not {"cookie", "origin", "x-own", "user-agent"} & {*asked.headers}
    assert (answer.status_code, answer.content) == (403, b"no")
    assert answer.headers["content-type"] == "application/json"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "path",
    ["/v1/control/list-nodes", "/v1/fleet/list-nodes", "/v1/fleet/%2e%2e/control/list-nodes"],
)
def test_no_other_call_does(path: str, client: Browser, page: Page) -> None:
    assert client.post(path).status_code in (404, 405)
    assert page.asked == []


def test_large_bodies_go_no_further(client: Browser, page: Page) -> None:
    for name, limit in TAB_CALLS.items():
        assert client.post(f"/v1/fleet/{name}", content=bytes(limit + 1)).status_code == 413
    assert page.asked == []


def test_a_superlink_that_is_away_is_said_to_be(client: Browser, page: Page) -> None:
    def away() -> httpx.Response:
        raise httpx.ConnectError("no one there")

    page.answer = away
    assert client.post("/v1/fleet/pull-messages").status_code == 502


def test_the_page_learns_of_this_code_and_its_keys(client: Browser, page: Page) -> None:
    about = client.get("/about.json").json()
    assert page.asked == []
    assert about["code"] == code_hash("celeba_fl.tasks.attributes")
    assert [one["name"] for one in about["attributes"]] == [*ATTRIBUTES]
    assert all(one["words"] and one["meaning"] for one in about["attributes"])
    assert {key: rules["default"] for key, rules in about["keys"].items()} == RunConfig.defaults()
    assert about["keys"]["optimizer"]["type"] == "str"
    assert about["keys"]["optimizer"]["choices"] == ["adam", "sgd"]
    assert about["view"]["dim"] == 1280
    assert about["address"] == "there:443"
    assert about["register"].endswith("flwr supernode register site.pub theirs")


def test_files_of_the_page_and_of_the_runtime_are_served(client: Browser) -> None:
    assert client.get("/").text == (PAGE / "index.html").read_text()
    for path in ("/main.js", "/worker.js", "/ort/ort.wasm.min.mjs"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "javascript" in answer.headers["content-type"]  # nosniff: else it would not run
        again = client.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304


@pytest.mark.parametrize(
    "path",
    [
        *("/../server.py", "/%2e%2e/server.py", "/..%2fserver.py", "/ui/../../server.py"),
        *("/ort/../../home/drawn/identity_CelebA.txt", "/ort/%2e%2e/home", "//etc/passwd"),
        *("/%00", "/ui", "/ui/", "/ort/", "/try/0/2.exe", "/onnx/backbone/x/y/1.onnx"),
    ],
)
def test_nothing_else_is(path: str, page: Page) -> None:
    raw = httpx.URL(ORIGIN).copy_with(raw_path=path.encode())
    answer = page.client().get(raw)
    assert answer.status_code == 404
    assert "error" in answer.json()


def test_the_view_of_a_run_is_told_by_its_keys(client: Browser) -> None:
    told = client.get("/onnx/view.json", params=VIEW).json()
    assert (told["image_size"], told["features"], told["dim"]) == (96, "3:7x7+folded", 672)
    refused = client.get("/onnx/view.json", params={**VIEW, "features": "none"})
    assert (refused.status_code, "is none of" in refused.json()["error"]) == (400, True)
    for wrong in ({"image-size": "x"}, {"image-size": "9" * 6}, {"home": "/"}):
        assert client.get("/onnx/view.json", params={**VIEW, **wrong}).status_code == 400


def test_a_step_is_a_graph_of_its_optimizer(
    client: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = {"sgd": b"graph of sgd"}
    module = SimpleNamespace(head_step=graphs.__getitem__)
    monkeypatch.setitem(sys.modules, "celeba_fl.models.head_graph", module)  # or wait for onnx
    assert client.get("/onnx/head-step.onnx?optimizer=sgd").content == b"graph of sgd"


@pytest.fixture
def weights(page: Page, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the place of weights, which any bytes are taken for, and of the graph of them."""
    graph = page.home / "graph"
    graph.write_bytes(b"graph")
    kept = page.home / "weights" / f"{WEIGHTS}.safetensors"
    kept.parent.mkdir()
    monkeypatch.setattr(
        "celeba_fl.vision.weights.keep_weights", lambda home, name, data: kept.write_bytes(data)
    )
    monkeypatch.setattr("celeba_fl.vision.extractor.onnx_file", lambda home, view, name: graph)
    return kept


def test_a_backbone_is_had_where_its_weights_are(client: Browser, weights: Path) -> None:
    path = f"/onnx/backbone/{WEIGHTS}/3:7x7+folded/96.onnx?backbone=mobilenet_v2"
    missing = client.get(path)
    assert missing.status_code == 404
    assert f"weights {WEIGHTS}: are not on the machine" in missing.json()["error"]
    assert client.put(f"/onnx/backbone/{WEIGHTS}", content=b"sent").status_code == 204
    assert weights.read_bytes() == b"sent"
    had = client.get(path)
    digest = base64.b64encode(hashlib.sha256(b"graph").digest()).decode()
    assert (had.content, had.headers["repr-digest"]) == (b"graph", f"sha-256=:{digest}:")
    assert client.get(path.replace("7x7", "99x99")).status_code == 400
    assert client.get(path.replace("mobilenet_v2", "x")).status_code == 400


def test_strangers_cannot_fill_the_disk(
    client: Browser, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_WEIGHTS", 10)
    monkeypatch.setattr(server, "MOST_GRAPHS", 2)
    assert client.put(f"/onnx/backbone/{WEIGHTS.upper()}", content=b"a").status_code == 404
    statuses = []
    for _ in "123":
        statuses.append(client.put(f"/onnx/backbone/{WEIGHTS}", content=b"12345").status_code)
        weights.unlink(missing_ok=True)
    assert statuses == [204, 204, 413]
    weights.write_bytes(b"")
    made = [
        client.get(f"/onnx/backbone/{WEIGHTS}/last/{size}.onnx?backbone=mobilenet_v2").status_code
        for size in (64, 64, 96, 128, 64)
    ]
    assert made == [200, 200, 200, 503, 200]


def test_weights_that_many_tabs_have_got_are_kept_once(
    client: Browser, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_WEIGHTS", 10)
    for content in (b"first", b"again", b"again"):
        assert client.put(f"/onnx/backbone/{WEIGHTS}", content=content).status_code == 204
    assert weights.read_bytes() == b"first"


def test_weights_that_come_too_slowly_let_others_have_their_turn(
    client: Browser, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_body", lambda *_: asyncio.sleep(60))
    monkeypatch.setattr(server, "WEIGHTS_SECONDS", 0)
    assert client.put(f"/onnx/backbone/{WEIGHTS}", content=b"sent").status_code == 408
    assert not weights.exists()


def test_graphs_that_cannot_be_made_do_not_count(
    client: Browser, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Path:
        raise InputError("of another architecture")

    weights.write_bytes(b"")
    monkeypatch.setattr(server, "MOST_GRAPHS", 1)
    path = f"/onnx/backbone/{WEIGHTS}/last/%d.onnx?backbone=mobilenet_v2"
    with monkeypatch.context() as other:
        other.setattr("celeba_fl.vision.extractor.onnx_file", refuse)
        assert [client.get(path % size).status_code for size in (64, 96)] == [400, 400]
    assert client.get(path % 128).status_code == 200


def test_weights_of_another_hash_are_refused(client: Browser, page: Page) -> None:
    refused = client.put(f"/onnx/backbone/{WEIGHTS}", content=b"else")
    assert (refused.status_code, "is another one" in refused.json()["error"]) == (400, True)
    assert not (page.home / "weights").exists()


def test_a_partition_is_what_a_python_client_holds(
    client: Browser, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    def assign(table: Table, *, seed: int, partitioner: str, **_: Any) -> np.ndarray:
        assert partitioner == "natural"
        return np.arange(seed, seed + len(table)) % 2

    monkeypatch.setattr("celeba_fl.data.partitions.assign", assign)  # or wait for flwr-datasets
    keys: dict[str, Any] = {"partitioner": "natural", "seed": 7}
    config = RunConfig.load({**keys, "home": str(page.home)})
    data = ClientData(config, sources.load)
    rows = data.held({"partition-id": 1, "num-partitions": 2})
    assert len(rows) == 6
    told = client.get("/try/1/2.json", params=keys).json()
    images = client.get("/try/1/2.bin", params=keys).content
    assert told["name"] == "1"
    for row, face in zip(rows, told["pictures"], strict=True):
        start = face["offset"]
        assert images[start : start + face["length"]] == data.table.read(row)
        assert face["file"] == data.table.image[row]
        assert int(face["content"]) == data.table.content[row]
        assert face["celeb_id"] == data.table.celeb_id[row]
        assert np.array_equal([*face["labels"]], [*map(str, data.table.labels[row].astype(int))])


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/try/2/2.json", "partition 2 of 2"),
        ("/try/0/2.json?home=/", "home: does not deal images"),
        ("/try/0/2.json?partitioner=x", "partitioner = 'x'"),
        ("/try/0/9.json", "9 nodes are too many"),
    ],
)
def test_a_partition_that_cannot_be_is_refused(path: str, words: str, client: Browser) -> None:
    refused = client.get(path)
    assert refused.status_code == 400
    assert words in refused.json()["error"]


def test_drawn_faces_and_tickets_are_for_a_try_alone(page: Page) -> None:
    client = page.client(drawn=False, tickets=False)
    assert client.get("/try/0/2.json").status_code == 404
    assert client.post("/try/node", content=json.dumps({})).status_code in (404, 405)
