import hashlib
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models
from torchvision.models import (
    WeightsEnum,
    mobilenet_v2,
    mobilenet_v3_small,
)
from torchvision.models._api import Weights

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import clean_up
from celeba_fl.vision import weights
from celeba_fl.vision.backbones import BACKBONES, Backbone
from celeba_fl.vision.weights import hash_state, load_backbone, resolve_weights, weights_path

NAME = "mobilenet_v2"


def never(backbone: Backbone) -> nn.Module:
    raise AssertionError("the drawn faces are not needed")


@pytest.fixture(scope="module")
def extractor(state):
    """What is kept of it."""
    return {
        key: value
        for key, value in state.items()
        if key.startswith("features.") and not key.endswith("num_batches_tracked")
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def save(path, state):
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    return str(path)


def test_hash_by_hand():
    state = {"b": torch.tensor([[1.0]]), "a": torch.tensor([2], dtype=torch.int64)}
    text = b"a int64 (1,)" + np.int64(2).tobytes() + b"b float32 (1, 1)" + np.float32(1).tobytes()
    assert hash_state(state) == hashlib.sha256(text).hexdigest()


def test_hash_depends_on_names_shapes_and_values_not_on_order_or_strides():
    matrix = torch.arange(6.0).view(2, 3)
    state = {"a": matrix, "b": torch.zeros(1)}
    assert hash_state({"b": torch.zeros(1), "a": matrix.T.contiguous().T}) == hash_state(state)
    others = [
        {"a": matrix, "c": torch.zeros(1)},
        {"a": matrix.view(3, 2), "b": torch.zeros(1)},
        {"a": matrix + 1, "b": torch.zeros(1)},
        {"a": matrix},
    ]
    assert len({hash_state(state), *map(hash_state, others)}) == 5


def test_weights_are_stored_under_their_hash(stored, home, extractor):
    kept = load_file(weights_path(home, stored))
    assert stored == hash_state(extractor)
    assert kept.keys() == extractor.keys()
    assert all(torch.equal(kept[key], extractor[key]) for key in kept)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_hash_is_that_of_the_extractor_whatever_else_the_file_holds(
    stored, home, state, extractor, tmp_path, suffix
):
    others = {
        "other_classifier": {**state, "classifier.1.weight": torch.ones(40, 1280)},
        "extractor_only": extractor,
        "more_batches": {
            key: value + 7 if key.endswith("num_batches_tracked") else value
            for key, value in state.items()
        },
        "double": {key: value.double() for key, value in extractor.items()},
    }
    for name, other in others.items():
        path = save(tmp_path / f"{name}{suffix}", other)
        assert resolve_weights(NAME, path, home, never) == stored, name
    assert [path.stem for path in (home / "weights").glob("[!.]*.safetensors")] == [stored]


def test_other_weights_have_another_hash(stored, home, extractor, tmp_path):
    key = "features.18.1.running_mean"
    path = save(tmp_path / "other.pt", {**extractor, key: extractor[key] + 1e-3})
    assert resolve_weights(NAME, path, home, never) != stored


@pytest.mark.parametrize(
    "build", [mobilenet_v3_small, lambda: mobilenet_v2(width_mult=0.25)], ids=["keys", "shapes"]
)
def test_another_architecture_is_refused(home, tmp_path, build):
    path = save(tmp_path / "other.pt", build().state_dict())
    with pytest.raises(InputError, match="of 260 tensors are missing or of another") as error:
        resolve_weights(NAME, path, home, never)
    assert f"weights = {path!r} are not those of backbone 'mobilenet_v2'" in str(error.value)
    assert "e.g. 'features." in str(error.value)
    assert not (home / "weights").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_with_a_number_that_is_none_are_refused(home, extractor, tmp_path, value):
    key = "features.18.1.running_mean"
    spoilt = {k: v.clone() for k, v in extractor.items()}
    spoilt[key][3] = value
    path = save(tmp_path / "nan.pt", spoilt)
    with pytest.raises(InputError, match=rf"weights = .*: '{key}' has NaN or infinity in it"):
        resolve_weights(NAME, path, home, never)


def test_one_missing_tensor_is_named(home, extractor, tmp_path):
    key = "features.18.1.running_mean"
    path = save(tmp_path / "part.pt", {k: v for k, v in extractor.items() if k != key})
    with pytest.raises(InputError, match=rf": 1 of 260 .*e\.g\. '{key}'"):
        resolve_weights(NAME, path, home, never)


@pytest.mark.parametrize("content", [{"state_dict": {}, "epoch": 3}, [1.0], torch.zeros(3)])
def test_no_state_dict(home, state, tmp_path, content):
    if isinstance(content, dict):
        content = {**content, "state_dict": state}
    path = save(tmp_path / "checkpoint.pt", content)
    with pytest.raises(InputError, match=r"checkpoint\.pt': not a state dict"):
        resolve_weights(NAME, path, home, never)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"garbage" * 1000])
def test_no_file_of_tensors(home, tmp_path, suffix, content):
    path = tmp_path / f"garbage{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"garbage\{suffix}' is not a complete file .*\(\w+\)"):
        resolve_weights(NAME, str(path), home, never)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_half_a_file(home, extractor, tmp_path, suffix):
    path = tmp_path / f"half{suffix}"
    save(path, extractor)
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(InputError, match="is not a complete file of tensors"):
        resolve_weights(NAME, str(path), home, never)


def test_a_pickle_that_runs_code_is_not_run(home, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    torch.save({"features.0.0.weight": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(InputError, match="is not a complete file of tensors"):
        resolve_weights(NAME, str(tmp_path / "trap.pt"), home, never)
    assert not (tmp_path / "sprung").exists()


def test_known_weights_are_not_read_again(stored, home, toy, monkeypatch):
    monkeypatch.setattr(weights, "_read", lambda path: never(BACKBONES[NAME]))
    assert resolve_weights(NAME, toy["weights"], home, never) == stored


def test_weights_that_changed_or_were_lost_are_read_again(stored, home, extractor, tmp_path):
    path = save(tmp_path / "mine.pt", extractor)
    assert resolve_weights(NAME, path, home, never) == stored
    weights_path(home, stored).unlink()
    assert resolve_weights(NAME, path, home, never) == stored
    assert weights_path(home, stored).exists()
    key = "features.18.1.running_mean"
    save(tmp_path / "mine.pt", {**extractor, key: extractor[key] + 1})
    assert resolve_weights(NAME, path, home, never) != stored


def test_missing_file(home, tmp_path):
    path = str(tmp_path / "nowhere.pt")
    with pytest.raises(InputError, match=f"'{path}': no such file; take 'drawn', 'imagenet', or"):
        resolve_weights(NAME, path, home, never)


def test_path_in_the_users_folder(stored, home, extractor, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "mine.safetensors", extractor)
    assert resolve_weights(NAME, "~/mine.safetensors", home, never) == stored


def test_damaged_stored_weights_are_noticed(stored, home):
    path = weights_path(home, stored)
    whole = path.read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:1000], b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"{stored}\.safetensors is damaged .* delete it"):
            load_backbone(NAME, home, stored)
    path.unlink()
    with pytest.raises(InputError, match=r"has vanished: start the run again"):
        load_backbone(NAME, home, stored)


@pytest.fixture
def imagenet(monkeypatch, tmp_path):
    """Let ImageNet's weights be a file of this machine; its name is returned by the content."""

    def serve(content, prefix=None):
        prefix = prefix or hashlib.sha256(content).hexdigest()[:8]
        path = tmp_path / f"mobilenet_v2-{prefix}.pth"
        enum = WeightsEnum("Fake", {"V2": Weights(path.as_uri(), transforms=None, meta={})})
        known = {BACKBONES[NAME].imagenet: enum.V2}
        monkeypatch.setattr(models, "get_weight", known.__getitem__)
        path.write_bytes(content)
        return path

    return serve


def test_imagenet_is_downloaded_once(imagenet, toy, stored, home, caplog):
    caplog.set_level(logging.INFO, "flwr.celeba_fl")
    file = imagenet(Path(toy["weights"]).read_bytes())
    assert resolve_weights(NAME, "imagenet", home, never) == stored
    assert "Downloading" in caplog.text
    file.unlink()
    caplog.clear()
    assert resolve_weights(NAME, "imagenet", home, never) == stored
    assert "Downloading" not in caplog.text


def test_imagenet_out_of_reach(imagenet, home):
    imagenet(b"").unlink()
    with pytest.raises(InputError, match="weights = 'imagenet': cannot download file://") as error:
        resolve_weights(NAME, "imagenet", home, never)
    kept = home / "weights" / "imagenet-mobilenet_v2.pth"
    assert f"put that file at {kept}" in str(error.value)
    assert "take weights = 'drawn'" in str(error.value)


def test_a_download_of_imagenet_that_was_killed_leaves_nothing_for_good(
    imagenet, toy, stored, home, monkeypatch
):
    file = imagenet(Path(toy["weights"]).read_bytes())

    def killed(*_, model_dir, **__):
        Path(model_dir).mkdir(parents=True)
        (Path(model_dir) / f"{file.name}.0123abcd.partial").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(WeightsEnum, "get_state_dict", killed)
        with pytest.raises(KeyboardInterrupt):
            resolve_weights(NAME, "imagenet", home, never)
    assert list(home.rglob("*.partial"))
    clean_up(home)
    assert not list(home.rglob("*.partial"))
    assert resolve_weights(NAME, "imagenet", home, never) == stored
    assert not list(home.rglob("*.part"))


def test_imagenet_where_it_was_put_by_hand(imagenet, toy, stored, home):
    file = imagenet(Path(toy["weights"]).read_bytes())
    file.rename(home / "weights" / "imagenet-mobilenet_v2.pth")
    assert resolve_weights(NAME, "imagenet", home, never) == stored


def test_imagenet_of_another_hash_than_in_its_name(imagenet, home):
    imagenet(b"something else", prefix="01234567")
    with pytest.raises(InputError, match=r"cannot download .*invalid hash value"):
        resolve_weights(NAME, "imagenet", home, never)
    assert not list((home / "weights").glob("*.pth"))


def test_half_of_imagenet_put_by_hand(imagenet, home):
    file = imagenet(b"half")
    (home / "weights").mkdir(parents=True)
    file.rename(home / "weights" / "imagenet-mobilenet_v2.pth")
    with pytest.raises(InputError, match=r"imagenet-mobilenet_v2\.pth' is not a complete file"):
        resolve_weights(NAME, "imagenet", home, never)


def test_drawn_weights_come_with_the_package(home: Path) -> None:
    """Also for code that runs from a bundle, which has no weights beside it."""
    sha256 = resolve_weights(NAME, "drawn", home, never)
    state = load_backbone(NAME, home, sha256).state_dict()
    assert state["features.0.0.weight"].dtype == torch.float32


@pytest.mark.parametrize("found", ["nothing", "another file"])
def test_drawn_weights_are_trained_where_those_of_the_package_are_not(
    found: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    if found == "another file":
        file = tmp_path / "celeba_fl" / "vision" / "drawn-mobilenet_v2.safetensors"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"of another version")
    with pytest.raises(AssertionError):
        resolve_weights(NAME, "drawn", home, never)


def test_drawn_weights_are_trained_once_and_kept(
    home: Path, stored: str, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "SHIPPED", {})
    trained = []

    def train(backbone: Backbone) -> nn.Module:
        trained.append(backbone)
        module = backbone.build()
        module.load_state_dict({k: v for k, v in state.items() if k.startswith("features.")})
        return module

    assert resolve_weights(NAME, "drawn", home, train) == stored
    assert resolve_weights(NAME, "drawn", home, never) == stored
    assert trained == [BACKBONES[NAME]]
