"""A server of this machine that speaks the API, and does what a test tells it to."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from celeba_fl.data.schema import ATTRIBUTES

KEY = "sk-very-secret-4711"


def answers(**changed):
    """The JSON of an answer to all attributes: no, but for those that are given."""
    said = {name: {"answer": "no", "confidence": 0.75} for name in ATTRIBUTES}
    return json.dumps({**said, **changed})


def completion(content=None, *, refusal=None, reason="stop", usage=(1000, 600)):
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


def error(text, code=None):
    return {"error": {"message": text, "type": "error", "param": None, "code": code}}


class Server(ThreadingHTTPServer):
    """Requests are kept; `reply(number, image)` gives status, body and headers of each."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.requests, self.lock = [], threading.Lock()
        self.reply = lambda number, image: (200, completion(answers()))

    def images(self):
        """The images that were asked for, in order of arrival."""
        return [request["image"] for request in self.requests]

    def handle_error(self, request, client_address):
        """A client that hung up is no failure."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
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

    def log_message(self, *_):
        pass
