import io
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from celeba_fl.common.errors import InputError
from celeba_fl.data import hub, sources
from celeba_fl.data.schema import ATTRIBUTES

HUB_ID = "someone/faces"
REVISION = "0123456789abcdef0123456789abcdef01234567"
README = """---
configs:
- config_name: img_align+identity+attr
  data_files:
  - split: train
    path: img_align+identity+attr/train-*
  - split: valid
    path: img_align+identity+attr/valid-*
  - split: test
    path: img_align+identity+attr/test-*
---
"""


def png(*colour):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "PNG")
    return file.getvalue()


def columns(split, rows, **changed):
    """Columns of a split: image `i` has the colour (i, split, 0) and only attribute `i`."""
    return {
        "image": [{"bytes": png(i, split, 0), "path": None} for i in range(rows)],
        "celeb_id": [100 * split + i for i in range(rows)],
        **{name: [i == j for i in range(rows)] for j, name in enumerate(ATTRIBUTES)},
    } | changed


@pytest.fixture
def parquet_folder(tmp_path):
    def make(splits=("train", "valid", "test"), **changed):
        folder = tmp_path / "faces"
        folder.mkdir()
        for code, split in enumerate(splits):
            table = pa.table(columns(code, 3 - code, **changed))
            pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
        return folder

    return make


def annotations(folder, home):
    return hub.source(folder, home).annotations()


def test_values_by_hand(parquet_folder, tmp_path):
    source = hub.source(parquet_folder(), tmp_path)
    table = source.annotations()
    assert table.image.tolist() == [
        "train-000000", "train-000001", "train-000002", "valid-000000", "valid-000001",
        "test-000000",
    ]  # fmt: skip
    assert table.celeb_id.tolist() == [0, 1, 2, 100, 101, 200]
    assert table.split.tolist() == [0, 0, 0, 1, 1, 2]
    np.testing.assert_array_equal(table.labels, np.eye(40, dtype=bool)[[0, 1, 2, 0, 1, 0]])
    assert [array.dtype for array in table[1:]] == [np.int32, bool, np.uint8]
    assert source.read(np.int64(2), "train-000002") == png(2, 0, 0)
    assert source.read(4, "valid-000001") == png(1, 1, 0)


def test_names_are_kept_where_they_are_known(tmp_path):
    for split, code in (("train", 0), ("test", 2)):
        images = [{"bytes": png(0, code, 0), "path": f"img/{code}.jpg"}]
        table = pa.table(columns(code, 1, image=images))
        pq.write_table(table, tmp_path / f"{split}.parquet")
    assert annotations(tmp_path, tmp_path).image.tolist() == ["0.jpg", "2.jpg"]


def test_labels_may_be_numbers(tmp_path):
    pq.write_table(pa.table(columns(0, 2, Male=[-1, 1], Young=[0, 1])), tmp_path / "train.parquet")
    labels = annotations(tmp_path, tmp_path).labels
    assert labels[:, ATTRIBUTES.index("Male")].tolist() == [False, True]
    assert labels[:, ATTRIBUTES.index("Young")].tolist() == [False, True]


def test_other_folder_is_no_source(tmp_path):
    assert hub.source(tmp_path, tmp_path) is None


def test_missing_columns_are_named(tmp_path):
    table = pa.table(columns(0, 2)).drop_columns(["Male", "Smiling"])
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"train\.parquet lacks the columns Male, Smiling;"):
        annotations(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"Male": [0, 7]}, "column Male should be true and false"),
        ({"Male": ["yes", "no"]}, "column Male should be true and false"),
        ({"Male": [True, None]}, "column Male is empty in 1 of 2 rows"),
        ({"celeb_id": [None, None]}, r"train\.parquet: column celeb_id is null; it should be who"),
        ({"celeb_id": [1, None]}, "column celeb_id is empty in 1 of 2 rows"),
        ({"celeb_id": ["Ann", "Bo"]}, r"train\.parquet: column celeb_id is string; it should be"),
        (
            {"celeb_id": [1, 2**31]},
            r"train\.parquet, line 2: celeb_id .* 32 bits, and is 2147483648",
        ),
        ({"image": [{"bytes": b"x", "path": "a"}, {"bytes": None, "path": "b"}]}, "line 2: the im"),
        ({"partition": ["train", "test"]}, "column 'partition' would not be read, since the spl"),
        ({"male": [0, 1]}, "columns 'Male' and 'male' both seem to mean 'Male'"),
    ],
)
def test_values_that_are_none(tmp_path, changed, message):
    pq.write_table(pa.table(columns(0, 2, **changed)), tmp_path / "train.parquet")
    with pytest.raises(InputError, match=message):
        annotations(tmp_path, tmp_path)


def test_unknown_split(tmp_path: Path) -> None:
    """Whatever a README says, which could name files of elsewhere."""
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: a\n  data_files:\n"
        "  - split: train\n    path: /etc/faces.parquet\n---\n"
    )
    pq.write_table(pa.table(columns(0, 2)), tmp_path / "faces.parquet")
    assert annotations(tmp_path, tmp_path).split.tolist() == [0, 0]
    pq.write_table(pa.table(columns(0, 2)), tmp_path / "test.parquet")
    with pytest.raises(InputError, match=r"faces\.parquet: .* begin with train, valid or test"):
        annotations(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: data[: len(data) // 2], "cannot be read: it is no whole parquet file"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    ],
)
def test_files_that_are_not_whole(
    tmp_path: Path, spoil: Callable[[bytes], bytes], words: str
) -> None:
    pq.write_table(pa.table(columns(0, 2)), tmp_path / "train.parquet")
    pq.write_table(pa.table(columns(2, 2)), tmp_path / "test.parquet")
    (tmp_path / "test.parquet").write_bytes(spoil((tmp_path / "test.parquet").read_bytes()))
    with pytest.raises(InputError, match=rf"{tmp_path}/test\.parquet: .*{words}"):
        annotations(tmp_path, tmp_path)


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_bomb_is_seen_before_it_is_read(tmp_path: Path, dictionary: bool) -> None:
    images = [{"bytes": b"\0" * 10**6, "path": None}] * 200
    table = pa.table({"image": images, **{name: [True] * 200 for name in ATTRIBUTES}})
    path = tmp_path / "train.parquet"
    pq.write_table(table, path, compression="zstd", use_dictionary=dictionary)
    del table, images
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(InputError, match=r"train\.parquet: its \d+ bytes grow to 200"):
        annotations(tmp_path, tmp_path)
    assert pa.default_memory_pool().max_memory() == before


def test_variants_of_the_hub(tmp_path: Path) -> None:
    """Other names, and nobody says who is who."""
    changed = columns(0, 2)
    renamed = {"jpg": changed.pop("image"), "note": ["a", "b"]}
    changed.pop("celeb_id")
    renamed |= {name.lower().replace("_", " "): column for name, column in changed.items()}
    pq.write_table(pa.table(renamed), tmp_path / "celeba-train-0.parquet")
    table = sources.load(str(tmp_path), tmp_path / "home")
    np.testing.assert_array_equal(table.labels, np.eye(40, dtype=bool)[:2])
    assert not table.identified
    assert table.read(1) == png(1, 0, 0)


def test_file_that_is_no_parquet(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"cannot be read: .*[Pp]arquet"):
        annotations(tmp_path, tmp_path)


def test_real_celeba(shared_data, tmp_path):
    path = shared_data("celeba_hub")
    table = sources.load(str(path), tmp_path)
    truth = sources.load(str(shared_data("celeba")), tmp_path)
    row_of = {name: row for row, name in enumerate(truth.image.tolist())}
    rows = [row_of[name] for name in table.image.tolist()]

    assert np.bincount(table.split).tolist() == [400, 100, 100]
    for column in ("celeb_id", "labels", "split", "content"):
        np.testing.assert_array_equal(getattr(table, column), getattr(truth, column)[rows])
    assert table.read(450) == truth.read(rows[450])


def plug_into(monkeypatch, port):
    url = f"http://127.0.0.1:{port}"
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


def unplug(monkeypatch):
    plug_into(monkeypatch, 9)  # "discard": nobody listens there


@pytest.fixture
def fake_hub(monkeypatch, parquet_folder):
    """Serve the part of the hub's HTTP API that a download uses; gives the requests made."""
    folder = parquet_folder()
    files = {f"img_align+identity+attr/{f.name}": f.read_bytes() for f in folder.iterdir()}
    files["README.md"] = README.encode()
    shutil.rmtree(folder)
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            path = self.path.partition("?")[0].replace("%2B", "+")
            if path == f"/api/datasets/{HUB_ID}":
                siblings = [{"rfilename": n, "size": len(d)} for n, d in files.items()]
                self.answer(json.dumps({"id": HUB_ID, "sha": REVISION, "siblings": siblings}))
            elif path == f"/api/datasets/{HUB_ID}/tree/{REVISION}":
                tree = [
                    {"type": "file", "path": n, "size": len(d), "oid": f"{len(d):040x}"}
                    for n, d in files.items()
                ]
                self.answer(json.dumps(tree))
            elif (name := path.partition(f"/{REVISION}/")[2]) in files:
                self.answer(files[name])
            else:
                self.send_error(404, headers={"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_GET  # noqa: N815

        def send_error(self, code, message=None, headers=None):
            self.answer("", code, **(headers or {}))

        def answer(self, body, code=200, **headers):
            data = body if isinstance(body, bytes) else body.encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("ETag", f'"{len(data):040x}"')
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    plug_into(monkeypatch, server.server_port)
    yield requests
    server.shutdown()
    server.server_close()
    thread.join()


def test_hub_id_is_downloaded_once(fake_hub, tmp_path, monkeypatch, caplog):
    home = tmp_path / "home"
    with caplog.at_level(logging.INFO, "flwr.celeba_fl"):
        table = sources.load(HUB_ID, home)
    assert table.name == HUB_ID
    assert table.split.tolist() == [0, 0, 0, 1, 1, 2]
    assert table.read(1) == png(1, 0, 0)
    assert f"Downloading {HUB_ID}: 3 files, 0 MB, to {home}" in caplog.text
    assert f"Downloading {HUB_ID} (MB): 0 of 0" in caplog.text
    asked = len(fake_hub)
    assert asked > 0

    unplug(monkeypatch)
    for parsed in (home / "tables", home / "hub" / "arrow"):
        again = sources.load(HUB_ID, home)
        assert (again.fingerprint, again.read(4)) == (table.fingerprint, png(1, 1, 0))
        shutil.rmtree(parsed)
    assert sources.load(HUB_ID, home).read(5) == png(0, 2, 0)
    assert len(fake_hub) == asked


def test_half_a_download_is_not_taken_for_the_whole(fake_hub, tmp_path, monkeypatch):
    half = tmp_path / "hub" / ".someone--faces.unfinished"
    half.mkdir(parents=True)
    pq.write_table(pa.table(columns(0, 1)), half / "train.parquet")
    with monkeypatch.context() as patch:
        unplug(patch)
        with pytest.raises(InputError, match="Two ways out"):
            sources.load(HUB_ID, tmp_path)
    assert len(sources.load(HUB_ID, tmp_path)) == 6


def test_hub_out_of_reach(monkeypatch, tmp_path):
    unplug(monkeypatch)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits, to try again"))
    with pytest.raises(InputError) as error:
        sources.load("flwrlabs/celeba", tmp_path)
    message = str(error.value)
    assert message.startswith("dataset = 'flwrlabs/celeba' is not a folder here, and the Hugging")
    assert "ConnectError: [Errno 111] Connection refused" in message
    assert "set `dataset` to a folder" in message
    assert "or to 'drawn'" in message


def test_hub_does_not_have_it(fake_hub, tmp_path):
    with pytest.raises(InputError, match=r"folder here, .* does not give it \(Repository"):
        sources.load("data/celeba", tmp_path)
