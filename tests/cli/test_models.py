"""`celeba-fl predict` and `celeba-fl sample`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save

from celeba_fl.models.dcgan import NETWORK, initial_arrays
from celeba_fl.teach.labelling import Outcome, Spending

Call = Callable[..., int]
Capture = pytest.CaptureFixture[str]


def test_predict(call: Call, capsys: Capture, toy: dict[str, Any], run_here: Path) -> None:
    capsys.readouterr()
    image = f"{toy['dataset']}/img_align_celeba/000001.jpg"
    assert call("predict", "--run", run_here.name, image) == 0
    said = capsys.readouterr()
    assert "000001.jpg" in said.out
    assert said.out.count("%") == 40

    assert call("predict", "nothing.jpg", image, "--json") == 1
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert list(told["images"]) == [image]
    assert set(told["images"][image]["Male"]) == {"score", "probability", "present"}
    assert told["unreadable"] == {"nothing.jpg": "No such file or directory"}
    assert "celeba-fl: nothing.jpg: No such file or directory" in said.err

    assert call("export", "--to", "ro-crate", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["to"], told["run"]["path"]) == ("ro-crate", str(run_here))
    assert told["written"] == str(run_here / "ro-crate-metadata.json")


def test_predict_says_what_the_model_knows(call: Call, capsys: Capture) -> None:
    assert call("predict", "--help") == 0
    assert "aligned and cropped as CelebA's are" in " ".join(capsys.readouterr().out.split())


def test_sample(call: Call, capsys: Capture, run_here: Path, tmp_path: Path) -> None:
    assert call("sample", "--run", str(run_here)) == 2
    assert "not one of the task dcgan" in capsys.readouterr().err

    run = tmp_path / "home" / "runs" / "run"
    shutil.copytree(run_here, run)
    model = save(initial_arrays(maps=1, seed=0), {"network": NETWORK})
    (run / "model.safetensors").write_bytes(model)
    assert call("sample", "--count", "3", "--out", "new", "--seed", "1") == 0
    assert capsys.readouterr().out.split() == ["new/grid.png"]
    faces = {path.name for path in (tmp_path / "new").iterdir()}
    assert faces == {"face-0001.png", "face-0002.png", "face-0003.png", "grid.png"}

    assert call("sample", "--count", "1", "--out", "more", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"faces": ["more/face-0001.png"], "grid": "more/grid.png"}

    assert call("sample", "--count", "2", "--out", "new") == 2
    assert capsys.readouterr().err == (
        "celeba-fl: new has faces already; move them away, or name another folder\n"
    )
    assert len(list((tmp_path / "new").iterdir())) == 4
    (tmp_path / "file").touch()
    for place in ("file", "file/sub", "/proc/new"):
        assert call("sample", "--count", "2", "--out", place) == 2
        assert f"celeba-fl: {place} cannot be written to: " in capsys.readouterr().err
    assert call("sample", "--count", "1000000000") == 2
    assert "100000" in capsys.readouterr().err


def test_teach_for_programs(call: Call, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def label(*_: Any, spending: Spending, **__: Any) -> Outcome:
        return Outcome(spending, labelled=3, failed={"a.jpg": "too dark"})

    monkeypatch.setattr("celeba_fl.teach.labelling.label", label)
    monkeypatch.setattr("celeba_fl.tasks.client_data.train_rows", lambda *_: ())
    assert call("teach", "drawn-iid", "--out", "out.csv", "--model", "m", "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["labelled"], said["failed"]) == (3, {"a.jpg": "too dark"})
    assert (said["spending"]["tokens_in"], said["usd"]) == (0, 0.0)
