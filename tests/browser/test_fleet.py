"""The page's Flower against the installed one: objects byte for byte, and signatures."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from peers import encoded, shown
from private import (
    Metadata,
    bytes_to_public_key,
    get_all_nested_objects,
    make_message,
    package_version,
    public_key_to_bytes,
    verify_signature,
)

PEER = Path(__file__).parent / "js" / "fleet_peer.mjs"
PAGE = Path(__file__).parents[2] / "celeba_fl" / "browser" / "page" / "fleet"
KINDS = {ArrayRecord: "arrays", MetricRecord: "metrics", ConfigRecord: "config"}
TYPES = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "bool"]
TYPES += ["uint8", "uint16", "uint32", "uint64"]
pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")


def metadata(number: int) -> Metadata:
    fields: dict[str, Any] = {
        "run_id": 2**64 - 1 - number,
        "message_id": "",
        "src_node_id": 1,
        "dst_node_id": 2**63 + number,
        "reply_to_message_id": "é" * number,
        "group_id": str(number or ""),
        "created_at": 1.764e9 + number / 7,
        "ttl": 43200.0,
        "message_type": "train.together",
        "src_task_id": number or None,
        "dst_task_id": None if number % 2 else 0,
    }
    return Metadata(**fields)


def contents() -> Iterator[RecordDict]:
    """Contents of every kind that Flower has, and some at its edges."""
    rng = np.random.default_rng(0)
    yield RecordDict()
    yield RecordDict({"": ArrayRecord(), "m": MetricRecord(), "c": ConfigRecord()})
    arrays = {kind: rng.integers(0, 2, (3, 2)).astype(kind) for kind in TYPES}
    arrays["10"], arrays["9"], arrays["__proto__"] = np.ones(()), np.zeros((0, 4)), arrays["int8"]
    arrays["by columns"] = np.asfortranarray(rng.normal(size=(2, 3, 4)))
    arrays['ä "\\\n\x7f😀'] = np.array(3.5)  # which has no shape
    yield RecordDict({"arrays": ArrayRecord({k: Array(np.asarray(a)) for k, a in arrays.items()})})
    chunks = np.zeros(3_000_000)  # of which two are the same
    yield RecordDict({"1": ArrayRecord({"zeros": Array(chunks)}), "0": MetricRecord({"n": 1})})
    numbers = [0, 1, -1, 2**63 - 1, -(2**63), 2**64 - 1, 2**31, -(2**31), 127, 128]
    floats = [0.0, -0.0, 1.0, -1.5, float("inf"), float("-inf"), float("nan"), 5e-324, 1.7e308]
    yield RecordDict(
        {
            "metrics": MetricRecord(
                {str(i): number for i, number in enumerate([*numbers, *floats])}
                | {"list": floats, "empty": [], "large": [1, 2**64 - 1], "small": numbers[:5]}
            ),
            "config": ConfigRecord(
                {"b": True, "f": False, "s": "", "t": "täxt\0😀", "raw": b"", "bytes": b"\0\xff"}
                | {"booleans": [True, False], "words": ["", "ä"], "raws": [b"", b"1"], "none": []}
                | {"numbers": numbers[:5], "large": numbers[5:6], "floats": floats, "i": -7}
            ),
        }
    )


def without_columns(content: RecordDict) -> RecordDict:
    """The content as the page writes it: arrays by rows."""
    arrays = content.array_records.get("arrays")
    for key in arrays or ():
        arrays[key] = Array(np.array(arrays[key].numpy(), order="C"))
    return content


def asked_of(message: Message) -> dict[str, Any]:
    objects = get_all_nested_objects(message)
    return {
        "id": message.object_id,
        "contents": {key: encoded(one.deflate()) for key, one in objects.items()},
    }


@pytest.fixture(scope="module")
def peer() -> dict[str, Any]:
    """What the page makes of messages of Flower's, and of a text to sign."""
    messages = [make_message(metadata(i), content) for i, content in enumerate(contents())]
    messages.append(make_message(metadata(7), error=Error(2, "täxt")))
    texts = [f"2026-11-26T08:00:{second:02}.000000+00:00" for second in range(50)]
    asked = {"messages": [asked_of(message) for message in messages], "texts": texts}
    done = subprocess.run(
        ["node", str(PEER)], input=json.dumps(asked), capture_output=True, text=True, timeout=60
    )
    assert not done.stderr
    return {"texts": texts, **json.loads(done.stdout)}


def test_objects_are_those_of_flower(peer):
    """Read and written again by the page, each has the bytes that Flower makes."""
    for i, (content, made) in enumerate(zip(contents(), peer["messages"], strict=False)):
        message = make_message(metadata(i), without_columns(content))
        assert made["contents"] == asked_of(message)["contents"]
        assert made["id"] == message.object_id
        assert made["ids"] == list(get_all_nested_objects(message))


def test_values_are_those_that_flower_sends(peer):
    for content, made in zip(contents(), peer["messages"], strict=False):
        assert made["records"] == [
            [
                name,
                KINDS[type(record)],
                [[key, shown(value, bits=True)] for key, value in record.items()],
            ]
            for name, record in content.items()
        ]


def test_errors_travel_as_errors(peer):
    message = make_message(metadata(7), error=Error(2, "täxt"))
    made = peer["messages"][-1]
    assert made["contents"] == asked_of(message)["contents"]
    assert made["error"] == "täxt"


def test_flower_takes_the_key_and_its_signatures(peer):
    """Fifty of them: one in two begins with a bit that DER pads, one in 128 with a zero."""
    key = bytes_to_public_key(peer["pem"].encode())
    assert public_key_to_bytes(key) == peer["pem"].encode()
    assert serialization.load_ssh_public_key(peer["openssh"].encode()) == key
    for text, signature in zip(peer["texts"], peer["signed"], strict=True):
        assert verify_signature(key, text.encode(), base64.b64decode(signature))


def test_the_page_knows_the_installed_flower():
    release = ".".join(package_version.split(".")[:2])
    assert f'"{release}"' in (PAGE / "messages.js").read_text()
