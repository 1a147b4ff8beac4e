"""Who may ask the page's server for what, and what it tells a browser to hold to."""

import pytest
from page_server import ORIGIN, Page

PULL = "/v1/fleet/pull-messages"
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize("path", ["/", "/none", "/about.json", "/ort/ort.wasm.min.mjs", PULL])
def test_every_answer_forbids_other_hosts(page: Page, path: str) -> None:
    client = page.client()
    answer = client.post(path) if path == PULL else client.get(path)
    policy = dict(
        rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert {word for rule in policy.values() for word in rule.split()} == {
        *("'none'", "'self'", "'wasm-unsafe-eval'", "blob:")
    }
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9", "[::1]:8600", "fl.example.org:8443"])
def test_the_page_is_there_under_its_names(page: Page, host: str) -> None:
    client = page.client()
    assert client.get("/", headers={"host": host, "origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.org", "127.0.0.1.evil.org:8600", "example.org", "a.b.example.org", "[::1].evil"]
)
def test_a_name_that_was_led_here_is_refused(page: Page, host: str) -> None:
    for origin in (f"http://{host}", ORIGIN):
        said = {"host": host, "origin": origin}
        assert page.client().post(PULL, headers=said).status_code == 421
    assert page.asked == []


@pytest.mark.parametrize(
    "origin", ["http://evil.org", "null", "https://127.0.0.1:8600", ORIGIN[:-1]]
)
def test_another_site_cannot_speak_in_the_pages_name(page: Page, origin: str) -> None:
    client = page.client()
    for method, path in (("POST", PULL), ("PUT", "/onnx/backbone/0"), ("GET", "/about.json")):
        answer = client.request(method, path, headers={"origin": origin})
        assert (answer.status_code, answer.json()) == (
            403,
            {"error": "only this page itself may ask for that"},
        )
    assert page.asked == []


def test_who_says_no_origin_may_read_alone(page: Page) -> None:
    client = page.client()
    del client.headers["origin"]
    assert client.get("/").status_code == 200
    assert client.post(PULL).status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_may_link_to_the_page_and_start_nothing(page: Page, site: str) -> None:
    client = page.client()
    del client.headers["origin"]
    link = {**LINK, "sec-fetch-site": site}
    assert client.get("/", headers=link).status_code == 200
    assert client.get("/?start=1", headers=link).status_code == 403
    assert client.get("/about.json", headers=link).status_code == 403
    assert client.get("/", headers={**link, "sec-fetch-dest": "iframe"}).status_code == 403
    assert client.get("/", headers={**link, "sec-fetch-mode": "no-cors"}).status_code == 403
    for own in ("same-origin", "none"):
        assert client.get("/?start=1", headers={**LINK, "sec-fetch-site": own}).status_code == 200
