"""A server of this machine that speaks the API, and does what a test tells it to."""

import base64
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from celeba_fl.data.schema import ATTRIBUTES

KEY = "sk-very-secret-4711"


def answers(**changed: Any) -> str:
    """The JSON of an answer to all attributes: no, but for those that are given."""
    said = {name: {"answer": "no", "confidence": 0.75} for name in ATTRIBUTES}
    return json.dumps({**said, **changed})


def completion(
    content: str | None = None,
    *,
    refusal: str | None = None,
    reason: str | None = "stop",
    usage: Any = (1000, 600),
) -> dict[str, Any]:
    """The body of a chat completion."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "seer",
        "choices": [{"index": 0, "finish_reason": reason, "message": message}],
        "usage": usage
        and {
            "prompt_tokens": usage[0],
            "completion_tokens": usage[1],
            "total_tokens": sum(usage),
        },
    }


def error(text: str, code: str | None = None) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": text, "type": "error", "param": None, "code": code}}


class Server(ThreadingHTTPServer):
    """Requests are kept; `reply(number, image)` gives status, body and headers of each."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.requests: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        self.reply: Callable[[int, bytes], tuple[Any, ...]] = lambda number, image: (
            200,
            completion(answers()),
        )

    def images(self) -> list[bytes]:
        """The images that were asked for, in order of arrival."""
        return [request["image"] for request in self.requests]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no failure."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        url = body["messages"][-1]["content"][0]["image_url"]["url"]
        request = {
            "path": self.path,
            "key": self.headers["Authorization"],
            "body": body,
            "image": base64.b64decode(url.partition(",")[2]),
        }
        with self.server.lock:
            self.server.requests.append(request)
            number = len(self.server.requests)
        status, said, *headers = self.server.reply(number, request["image"])
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        kind = "text/html" if isinstance(said, bytes) else "application/json"
        fields = {"Content-Type": kind, "Content-Length": str(len(data))}
        for name, value in {**fields, **(headers[0] if headers else {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass
