import csv
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from api import KEY, Server, answers, completion, error
from PIL import Image
from toys import write_celeba

from celeba_fl.cli import app
from celeba_fl.data import sources
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.data.teacher import UNSURE, Teacher
from celeba_fl.teach import endpoint, labelling
from celeba_fl.teach.labelling import Spending

TRAIN = [f"{row:06d}.jpg" for row in range(1, 9)]
SOON = {"retry-after-ms": "5"}
GOOD = 200, completion(answers())


@pytest.fixture
def folder(tmp_path):
    """Eight train images and four others, no two alike."""
    folder = write_celeba(tmp_path / "celeba")
    for number, path in enumerate(sorted(folder.glob("img_align_celeba/*"))):
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(path)
    return folder


@pytest.fixture
def image_of(folder):
    """The name of the image with these bytes."""
    return {path.read_bytes(): path.name for path in folder.glob("img_align_celeba/*")}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "labels" / "labels.csv"


@pytest.fixture
def words(folder, tmp_path, out, server):
    """The command line, without options."""
    return [
        *("teach", "drawn-iid", f"dataset={folder}", f"home={tmp_path / 'home'}"),
        *("valid-fraction=0", "allow-drawn-weights=true"),
        *("--nodes", "2", "--out", str(out), "--model", "seer", "--base-url", server.url),
    ]


@pytest.fixture
def teach(words, monkeypatch, capfd, caplog):
    """Run the command; its exit status and what it said."""
    caplog.set_level("INFO", "flwr.celeba_fl")
    monkeypatch.setattr(endpoint, "RETRIES", 1)
    before = signal.getsignal(signal.SIGTERM)

    def teach(*options):
        monkeypatch.setattr(sys, "argv", ["celeba-fl", *words, *options])
        caplog.clear()
        with pytest.raises(SystemExit) as ended:
            app.main()
        said = "".join(capfd.readouterr())
        assert KEY not in said + caplog.text
        return int(ended.value.code or 0), said

    yield teach
    signal.signal(signal.SIGTERM, before)


def read(out):
    """Values and confidences by image, each of which is there once."""
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    counts = Counter((row["image"], row["attribute"]) for row in rows)
    assert set(counts.values()) <= {1}
    found: dict[str, Any] = {}
    for row in rows:
        found.setdefault(row["image"], {})[row["attribute"]] = row["value"], row["confidence"]
    assert all(tuple(labels) == ATTRIBUTES for labels in found.values())
    return found


def test_all_images_that_clients_hold_are_labelled_once(
    teach, server, image_of, out, caplog, folder, tmp_path
):
    def reply(number, image):
        bald = "yes" if image_of[image] == "000003.jpg" else "unsure"
        return 200, completion(answers(Bald={"answer": bald, "confidence": 0.5}))

    server.reply = reply
    status, said = teach("--workers", "3")
    assert status == 0
    found = read(out)
    assert sorted(found) == TRAIN
    assert found["000003.jpg"]["Bald"] == ("1", "0.5")
    assert found["000004.jpg"]["Bald"] == ("", "0.5")
    assert found["000003.jpg"]["Bangs"] == ("0", "0.75")
    assert "8 more images, 0 refused, 7 answers unsure (8,000 tokens in, 4,800 out)" in said
    assert caplog.messages[-1].startswith("Asking the teacher: 8 of 8 (")
    assert caplog.messages[-1].endswith(", 8,000 tokens in, 4,800 out)")

    table = sources.load(str(folder), tmp_path / "home")
    home, errors = tmp_path / "home", [0.0] * len(ATTRIBUTES)
    teacher = Teacher(str(out), table, home, confidence=0, errors=errors, seed=42)
    known = teacher(np.arange(8))[:, ATTRIBUTES.index("Bald")]
    assert known.tolist() == [1 if row == 2 else UNSURE for row in range(8)]

    assert teach()[0] == 0
    assert "8 of 8 images are labelled" in caplog.text
    assert len(server.requests) == 8


def test_images_that_no_client_holds_are_not_asked_for(teach, server, out):
    assert teach("partition-size=3")[0] == 0
    assert len(read(out)) == len(server.requests) == 6


def test_max_images_are_the_first_ones_also_in_a_second_run(teach, server, out):
    assert teach("--max-images", "3", "--workers", "1")[0] == 0
    assert list(read(out)) == TRAIN[:3]
    assert teach("--max-images", "3")[0] == 0
    assert len(server.requests) == 3
    assert teach("--max-images", "5")[0] == 0
    assert sorted(read(out)) == TRAIN[:5]
    assert len(server.requests) == 5


def test_refusals_are_recorded(teach, server, image_of, out):
    refused = 200, completion(refusal="No.")
    server.reply = lambda number, image: refused if image_of[image] == TRAIN[1] else GOOD
    status, said = teach()
    assert status == 0
    assert "8 more images, 1 refused, 40 answers unsure" in said
    assert set(read(out)[TRAIN[1]].values()) == {("", "")}


def test_malformed_answers_are_asked_again_then_left_to_a_later_run(teach, server, image_of, out):
    asked: Counter[bytes] = Counter()

    def reply(number, image):
        name = image_of[image]
        asked[name] += 1
        bad = name == TRAIN[2] or (name == TRAIN[4] and asked[name] == 1)
        return 200, completion("?" if bad else answers())

    server.reply = reply
    status, said = teach()
    assert status == 1
    assert f"celeba-fl: {TRAIN[2]} has no labels: no JSON: '?'" in said
    assert sorted(read(out)) == [name for name in TRAIN if name != TRAIN[2]]
    assert (asked[TRAIN[2]], asked[TRAIN[4]], sum(asked.values())) == (3, 2, 6 + 3 + 2)
    assert "(11,000 tokens in" in said  # what could not be read is paid for as well

    server.reply = lambda number, image: GOOD
    assert teach()[0] == 0
    assert sorted(read(out)) == TRAIN
    assert server.images()[11:] == [image for image, name in image_of.items() if name == TRAIN[2]]


def test_an_image_that_cannot_be_read_is_not_sent(teach, server, folder, out):
    (folder / "img_align_celeba" / TRAIN[0]).write_bytes(b"\xff\xd8 broken")
    status, said = teach()
    assert status == 1
    assert f"{TRAIN[0]} has no labels: cannot be read" in said
    assert sorted(read(out)) == TRAIN[1:]
    assert len(server.requests) == 7


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ((400, error("Invalid image")), "Invalid image"),
        ((500, error("broken"), SOON), "broken"),
        ((200, b'{"id": "1", "cho', {"Content-Type": "application/json"}), "is not JSON"),
    ],
)
def test_one_image_at_which_the_endpoint_fails_does_not_end_the_run(
    teach, server, image_of, out, reply, why
):
    server.reply = lambda number, image: reply if image_of[image] == TRAIN[0] else GOOD
    status, said = teach("--workers", "1")
    assert status == 1
    assert f"{TRAIN[0]} has no labels: " in said
    assert why in said
    assert sorted(read(out)) == TRAIN[1:]


def test_an_endpoint_that_fails_at_all_images_ends_it(teach, server):
    server.reply = lambda number, image: (400, error("no response_format here"))
    status, said = teach("--workers", "1")
    assert status == 2
    assert f"{server.url}/ fails at 3 images in a row: " in said
    assert "no response_format here" in said
    assert len(server.requests) == 3


def test_images_at_which_it_failed_do_not_keep_it_from_the_others(teach, server, image_of, out):
    bad = 400, error("Invalid image")
    server.reply = lambda number, image: bad if image_of[image] in TRAIN[1:5] else GOOD
    assert teach("--max-images", "2", "--workers", "1")[0] == 1
    assert teach("--workers", "1")[0] == 1
    assert sorted(read(out)) == [TRAIN[0], *TRAIN[5:]]


def test_an_endpoint_that_has_answered_may_fail_longer_but_not_for_ever(teach, server, monkeypatch):
    monkeypatch.setattr(labelling, "FAILED", 5)
    assert teach("--max-images", "1")[0] == 0
    server.reply = lambda number, image: (400, error("no more"))
    status, said = teach("--workers", "1")
    assert (status, len(server.requests)) == (2, 1 + 5)
    assert "fails at 5 images in a row: " in said


def test_what_is_under_way_when_it_ends_is_kept(teach, server, out):
    late = threading.Event()

    def reply(number, image):
        if number > 2:
            late.set()
            return 401, error("no such key")
        late.wait(20)
        time.sleep(0.3)
        return GOOD

    server.reply = reply
    status, said = teach("--workers", "3")
    assert status == 2
    assert "set OPENAI_API_KEY" in said
    assert (len(read(out)), len(server.requests)) == (2, 3)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((429, error("slow down"), SOON), "rate limit stays, after 1 retries"),
        ((401, error(f"no such key: {KEY}")), "set OPENAI_API_KEY"),
    ],
)
def test_what_is_done_is_kept_and_the_same_command_goes_on(teach, server, out, reply, message):
    server.reply = lambda number, image: GOOD if number < 4 else reply
    status, said = teach("--workers", "1")
    assert status == 2
    assert message in said
    kept = f"3 more images are labelled in {out} (3,000 tokens in, 1,800 out)"
    assert f"{kept}; the same command continues" in said
    assert list(read(out)) == TRAIN[:3]
    server.reply = lambda number, image: GOOD
    before = len(server.requests)
    assert teach()[0] == 0
    assert sorted(read(out)) == TRAIN
    assert len(server.requests) == before + 5


def test_rate_limits_that_pass_cost_nothing_but_time(teach, server, out):
    slow = 429, error("slow down"), {"Retry-After": "0.01"}
    server.reply = lambda number, image: slow if number % 2 else GOOD
    assert teach("--workers", "1")[0] == 0
    assert sorted(read(out)) == TRAIN
    assert len(server.requests) == 16


def test_labels_of_two_models_or_data_sets_are_not_mixed(teach, server, words, out, tmp_path):
    assert teach("--max-images", "1")[0] == 0
    status, said = teach("--model", "oracle")
    assert status == 2
    assert "labelled by another teacher: {'model': 'seer'}, now {'model': 'oracle'}" in said
    status, said = teach(f"dataset={write_celeba(tmp_path / 'other', seed=1)}")
    assert status == 2
    assert "labelled by another teacher: {'dataset': " in said
    assert len(server.requests) == 1


def test_an_image_that_is_gone_ends_the_run(teach, server, folder, out):
    assert teach("--max-images", "1")[0] == 0
    gone = folder / "img_align_celeba" / TRAIN[3]

    def reply(number, image):
        gone.unlink(missing_ok=True)
        return GOOD

    server.reply = reply
    status, said = teach("--workers", "1")
    assert status == 2
    assert f"'{gone}'. 2 more images are labelled in {out}" in said
    assert list(read(out)) == TRAIN[:3]


# ---- money ---------------------------------------------------------------------------------


def test_spending_by_hand():
    # A request of 1,000 tokens costs 0.002 USD, the longest answer 4,096 * 10 / 1e6 = 0.04096.
    spending = Spending(price_in=2.0, price_out=10.0, limit=0.1)
    assert [spending.allows(0), spending.allows(1)] == [True, False]  # the first one goes alone
    spending.add((1000, 100))
    assert spending.usd == pytest.approx(0.003)
    # 0.003 + k * 0.04296 <= 0.1 for k = 2 and no more.
    assert [spending.allows(running) for running in range(3)] == [True, True, False]
    spending.add((500, 5410))
    assert spending.usd == pytest.approx(0.003 + 0.001 + 0.0541)
    assert not spending.allows(0)
    assert str(spending) == "1,500 tokens in, 5,510 out, 0.0581 USD"


def test_without_a_limit_anything_is_allowed():
    assert Spending(None, None, None).allows(100)
    assert not Spending(0.0, 1.0, 0.0).allows(0)


def test_max_cost_is_never_exceeded_and_more_money_goes_on(teach, server, out):
    prices = ["--price-in", "1", "--price-out", "10"]  # 0.007 USD an image
    status, said = teach("--max-cost", "0.06", *prices)
    assert status == 1
    # The longest answer and its request cost 0.04196: room for a third, not for a fourth.
    assert sorted(read(out)) == TRAIN[:3]
    assert "--max-cost 0.06: 5 images left" in said
    assert (
        "3 more images, 0 refused, 0 answers unsure (3,000 tokens in, 1,800 out, 0.0210 USD)"
        in said
    )
    assert teach("--max-cost", "1", *prices)[0] == 0
    assert sorted(read(out)) == TRAIN
    assert len(server.requests) == 8


def test_max_cost_needs_prices_and_an_endpoint_that_counts(teach, server, out):
    status, said = teach("--max-cost", "1")
    assert (status, len(server.requests)) == (2, 0)
    assert "--max-cost 1 needs the prices: --price-in and --price-out" in said
    assert "--price-in and --price-out go together" in teach("--price-in", "1")[1]
    server.reply = lambda number, image: (200, completion(answers(), usage=None))
    status, said = teach("--max-cost", "1", "--price-in", "1", "--price-out", "1")
    assert (status, len(server.requests)) == (2, 1)
    assert "--max-cost 1 cannot be kept: the endpoint does not tell" in said
    assert len(read(out)) == 1  # paid for, and kept
    assert teach()[0] == 0
    assert len(server.requests) == 8


# ---- real processes --------------------------------------------------------------------------


@pytest.fixture
def start(words):
    def start():
        # Where tests run in the background, children ignore it.
        code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        code += "from celeba_fl.cli.app import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", code, *words, "--workers", "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "FLWR_TELEMETRY_ENABLED": "0"},
        )

    return start


def wait_for(server, number):
    deadline = time.monotonic() + 240
    while len(server.requests) < number:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        *(pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGTERM, signal.SIGINT)),
    ],
)
def test_interrupted_at_any_time_every_image_is_there_once(start, teach, server, out, number):
    release: list[bool] = []

    def reply(count, image):
        while count > 4 and not release:
            time.sleep(0.01)
        return GOOD

    server.reply = reply
    process = start()
    wait_for(server, 6)  # 4 are answered, 2 under way
    process.send_signal(number)
    said, _ = process.communicate(timeout=240)
    assert KEY not in said
    if number == signal.SIGKILL:
        assert process.returncode == -number
        with out.open("ab") as file:  # as if in the middle of a write
            file.write(out.read_bytes().splitlines(keepends=True)[-40][:-2])
    else:
        assert process.returncode == 130
        assert "interrupted (4,000 tokens in, 2,400 out); the same command goes on" in said
        assert "Traceback" not in said
    release.append(True)
    assert teach()[0] == 0
    assert sorted(read(out)) == TRAIN
    assert len(server.requests) == 6 + 4
    assert not any(KEY in path.read_text() for path in out.parent.iterdir())


def test_useless_answers_in_a_row_end_it(
    teach: Callable[..., tuple[int, str]], server: Server
) -> None:
    """It would ask three times for each image, and label none."""
    server.reply = lambda number, image: (200, completion("A nice picture!"))
    status, said = teach("--workers", "1")
    assert status == 2
    assert "fails at 3 images in a row: no JSON: " in said
    assert len(server.requests) == 9


@pytest.mark.parametrize("usage", [(-(10**6), 600), (1000, -(10**6)), (0, 0)])
def test_absurd_usage_does_not_pass_max_cost(
    teach: Callable[..., tuple[int, str]], server: Server, usage: tuple[int, int]
) -> None:
    server.reply = lambda number, image: (200, completion(answers(), usage=usage))
    status, said = teach("--max-cost", "1", "--price-in", "1", "--price-out", "1")
    assert status == 2
    assert "--max-cost 1 cannot be kept" in said
    assert len(server.requests) == 1
