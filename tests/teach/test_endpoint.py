import asyncio
import io
import time
from collections.abc import Callable
from typing import Any

import pytest
from api import KEY, Server, answers, completion, error
from PIL import Image

from celeba_fl.common.errors import InputError
from celeba_fl.data.images import BadImageError
from celeba_fl.teach import endpoint as module
from celeba_fl.teach.endpoint import Endpoint, Reply
from celeba_fl.teach.questions import INSTRUCTIONS, SCHEMA, UNSURE, parse_answers

SOON = {"retry-after-ms": "5"}


def picture(kind="JPEG"):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 8, 7)).save(file, kind)
    return file.getvalue()


@pytest.fixture(autouse=True)
def few_retries(monkeypatch):
    monkeypatch.setattr(module, "RETRIES", 2)


@pytest.fixture
def ask(server):
    """Ask the server once, which answers with these, one after the other, the last for ever."""

    def ask(*replies, timeout=20.0, image=None):
        if replies:
            server.reply = lambda number, image: replies[min(number, len(replies)) - 1]

        async def once():
            async with Endpoint("seer", server.url, timeout) as endpoint:
                return await endpoint.ask(image or picture())

        return asyncio.run(once())

    return ask


def test_request(server, ask):
    reply = ask()
    assert reply.answers == parse_answers(answers())
    assert (reply.tokens, reply.why, reply.failed) == ((1000, 600), "", False)
    (request,) = server.requests
    assert (request["path"], request["key"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert request["image"] == picture()
    body = request["body"]
    assert body["model"] == "seer"
    assert body["messages"][0] == {"role": "system", "content": INSTRUCTIONS}
    (content,) = body["messages"][1]["content"]
    assert content["image_url"]["detail"] == "low"
    assert content["image_url"]["url"].startswith("data:image/jpeg;base64,")
    told = {"name": "attributes", "strict": True, "schema": SCHEMA}
    assert body["response_format"] == {"type": "json_schema", "json_schema": told}


@pytest.mark.parametrize(
    "reply",
    [
        (200, completion(refusal="I will not judge people.")),
        (200, completion(answers(), reason="content_filter")),
        (400, error("The prompt was filtered", "content_filter")),
        (400, error("Not safe", "content_policy_violation")),
        (200, completion("I'm sorry, but I can't help with that.")),
    ],
)
def test_refusals_are_unsure_of_everything(server, ask, reply):
    found = ask(reply)
    assert found.answers is UNSURE
    assert found.why
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (completion("yes"), "no JSON: 'yes'"),
        (completion("[" * 3000), "no JSON"),
        (completion(None), "no JSON"),
        (completion([{"type": "text", "text": answers()}]), "no JSON: "),
        (completion(answers(), reason="length"), "cut off after 4096 tokens"),
    ],
)
def test_unreadable_answers_cost_too(ask, body, why):
    reply = ask((200, body))
    assert (reply.answers, reply.tokens, reply.failed) == (None, (1000, 600), False)
    assert why in reply.why


def test_an_endpoint_need_not_tell_tokens(ask):
    assert ask((200, completion(answers(), usage=None))).tokens is None


@pytest.mark.parametrize(
    ("reply", "requests", "why"),
    [
        ((400, error("Invalid image")), 1, "Invalid image"),
        ((422, error("Invalid image")), 1, "Invalid image"),
        ((500, error("broken"), SOON), 3, "broken"),
        ((200, b'{"id": "1", "cho', {"Content-Type": "application/json"}), 1, "answer is not JSON"),
    ],
)
def test_what_the_image_may_be_to_blame_for_is_a_reply(server, ask, reply, requests, why):
    said = ask(reply)
    assert (said.answers, said.tokens, said.failed) == (None, None, True)
    assert why in said.why
    assert len(server.requests) == requests


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_tried_again(server, ask, status):
    reply = ask((status, error("later"), SOON), (200, completion(answers())))
    assert reply.answers == parse_answers(answers())
    assert len(server.requests) == 2


def test_retry_after_is_honoured(ask):
    start = time.monotonic()
    ask((429, error("later"), {"Retry-After": "0.3"}), (200, completion(answers())))
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize(
    ("reply", "requests", "message"),
    [
        ((401, error("wrong")), 1, "the key is not accepted .*wrong.*set OPENAI_API_KEY"),
        ((403, error("not you")), 1, "the key is not accepted .*not you"),
        ((404, error("no model")), 1, r"not found .*see --model 'seer' and --base-url"),
        ((402, error("pay first")), 1, "pay first"),
        ((429, error("slow down"), SOON), 3, "rate limit stays, after 2 retries .*slow down"),
        ((200, b"<html>A page</html>"), 1, "something else than a chat completion.*--base-url"),
        ((200, {"choices": []}), 1, "something else than a chat completion"),
        ((200, {"detail": "?"}), 1, "something else than a chat completion"),
    ],
)
def test_what_no_further_request_would_mend(server, ask, reply, requests, message):
    with pytest.raises(InputError, match=message) as raised:
        ask(reply)
    assert str(raised.value).startswith(server.url)
    assert len(server.requests) == requests


def test_out_of_reach(server, ask):
    server.url = "http://127.0.0.1:9/v1"
    with pytest.raises(InputError, match=r"cannot be reached, after 2 retries .*see --base-url"):
        ask()


def test_no_answer_in_time(server, ask):
    server.reply = lambda number, image: time.sleep(0.5) or (200, completion(answers()))
    reply = ask(timeout=0.05)
    assert (reply.answers, reply.failed) == (None, True)
    assert reply.why == "no answer in time, after 2 retries; see --timeout"
    assert len(server.requests) == 3


def test_a_server_that_repeats_the_key_does_not_make_us_tell_it(ask):
    with pytest.raises(InputError, match=r"Bearer \*\*\*") as raised:
        ask((401, error(f"Bearer {KEY} is unknown")))
    assert KEY not in str(raised.value)
    assert KEY not in ask((400, error(f"{KEY}?"))).why


def test_without_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InputError, match="set the environment variable OPENAI_API_KEY"):
        Endpoint("seer", None, 1)


def test_a_key_that_cannot_be_sent_is_not_told(server, ask, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    with pytest.raises(InputError) as raised:
        ask()
    assert KEY not in str(raised.value)
    assert not server.requests


def test_images_are_sent_as_they_are_if_they_are_whole(server, ask):
    ask(image=picture("PNG"))
    (request,) = server.requests
    assert request["image"] == picture("PNG")
    (content,) = request["body"]["messages"][1]["content"]
    assert content["image_url"]["url"].startswith("data:image/png;base64,")
    for broken in (b"no image", picture()[:200]):
        with pytest.raises(BadImageError):
            ask(image=broken)
    assert len(server.requests) == 1


def test_faces_do_not_follow_a_redirect(server: Server, ask: Callable[..., Reply]) -> None:
    """Neither to another host, nor to this one."""
    elsewhere = Server()
    for url in (elsewhere.url, f"{server.url}/there"):
        place = {"Location": f"{url}/chat/completions"}
        for status in (301, 302, 307, 308):
            server.requests.clear()
            with pytest.raises(InputError, match=rf"redirects to '{url}/chat.*see --base-url"):
                ask((status, b"", place))
            assert len(server.requests) == 1
    assert not elsewhere.requests
    elsewhere.server_close()


@pytest.mark.parametrize(
    "usage",
    [(-5, 10), (1000, -600), (0, 600), (1000, 0), (10**6, 1), ("1000", 1), (True, 1), (1e3, 1.0)],
)
def test_absurd_counts_of_tokens_are_none(ask: Callable[..., Reply], usage: Any) -> None:
    body = completion(answers())
    body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    assert ask((200, body)).tokens is None


@pytest.mark.parametrize("usage", ["much", [], {"total_tokens": 3}])
def test_a_usage_that_is_none(ask: Callable[..., Reply], usage: Any) -> None:
    assert ask((200, {**completion(answers()), "usage": usage})).tokens is None


def test_a_key_of_one_letter_is_no_secret(
    ask: Callable[..., Reply], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a")
    assert "an Invalid image" in ask((400, error("an Invalid image"))).why


def test_what_a_server_says_moves_no_cursor(ask: Callable[..., Reply]) -> None:
    assert " [2J gone" in ask((400, error("\x1b[2J gone"))).why
