import hashlib
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision import models
from torchvision.models import (
    MobileNet_V2_Weights,
    ViT_B_16_Weights,
    WeightsEnum,
    mobilenet_v2,
    mobilenet_v3_small,
    vit_b_16,
)
from torchvision.models._api import Weights
from torchvision.models.vision_transformer import (
    ConvStemConfig,
    VisionTransformer,
    interpolate_embeddings,
)

from celeba_fl.common.errors import InputError
from celeba_fl.vision import pretrain, weights
from celeba_fl.vision.backbones import BACKBONES, check_settings
from celeba_fl.vision.weights import hash_state, load_backbone, resolve_weights, weights_path

NAME = "mobilenet_v2"


def never():
    raise AssertionError("the drawn faces are not needed")


@pytest.fixture(scope="module")
def state(toy):
    """A MobileNetV2's state dict, with its classifier, as torchvision gives it."""
    return torch.load(toy["weights"])


@pytest.fixture(scope="module")
def extractor(state):
    """What is kept of it."""
    return {
        key: value
        for key, value in state.items()
        if key.startswith("features.") and not key.endswith("num_batches_tracked")
    }


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def stored(toy, home):
    """The hash of weights that are stored under `home`."""
    return resolve_weights(NAME, toy["weights"], home, never)


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
    with pytest.raises(InputError, match=rf"garbage\{suffix}' is no whole file of tensors \(\w+\)"):
        resolve_weights(NAME, str(path), home, never)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_half_a_file(home, extractor, tmp_path, suffix):
    path = tmp_path / f"half{suffix}"
    save(path, extractor)
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(InputError, match="is no whole file of tensors"):
        resolve_weights(NAME, str(path), home, never)


def test_a_pickle_that_runs_code_is_not_run(home, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    torch.save({"features.0.0.weight": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(InputError, match="is no whole file of tensors"):
        resolve_weights(NAME, str(tmp_path / "trap.pt"), home, never)
    assert not (tmp_path / "sprung").exists()


def test_known_weights_are_not_read_again(stored, home, toy, monkeypatch):
    monkeypatch.setattr(weights, "_read", lambda path: never())
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


def test_features_are_torchvisions_pooled_ones(stored, home, state):
    images = torch.randn(2, 3, 64, 64)
    whole = mobilenet_v2()
    whole.load_state_dict(state)
    whole.classifier = torch.nn.Identity()
    with torch.inference_mode():
        features = load_backbone(NAME, home, stored)(images)
        expected = whole.eval()(images)
    assert features.shape == (2, BACKBONES[NAME].dim)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-6)


def store(name, state, home, tmp_path):
    return resolve_weights(name, save(tmp_path / f"{name}.pt", state), home, never)


def test_features_of_vit_b_16_are_torchvisions_and_older_files_are_read(home, tmp_path):
    torch.manual_seed(0)
    whole = vit_b_16()
    # torchvision's IMAGENET1K_V1 still has these keys; it renames them while loading.
    older = {
        re.sub(r"mlp\.([03])\.", lambda found: f"mlp.linear_{int(found[1]) // 3 + 1}.", key): value
        for key, value in whole.state_dict().items()
    }
    assert sum("linear_1" in key or "linear_2" in key for key in older) == 12 * 2 * 2
    whole.heads = torch.nn.Identity()
    image = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        features = load_backbone("vit_b_16", home, store("vit_b_16", older, home, tmp_path))(image)
        expected = whole.eval()(image)
    assert features.shape == (1, BACKBONES["vit_b_16"].dim)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def tiny():
    """Torchvision's own model of vit_tiny's shape, without a classifier, for an image size."""

    def build(size):
        stem = [ConvStemConfig(width, 3, 2) for width in (16, 32, 64, 128)]
        model = VisionTransformer(size, 16, 4, 4, 128, 512, conv_stem_configs=stem)
        model.heads = torch.nn.Identity()
        return model.eval()

    return build


@pytest.mark.parametrize("size", [96, 64, 128])
def test_position_embeddings_are_interpolated_as_torchvision_does(home, tmp_path, tiny, size):
    torch.manual_seed(0)
    state = tiny(96).state_dict()
    expected = tiny(size)
    expected.load_state_dict(interpolate_embeddings(size, 16, dict(state)))
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        module = load_backbone("vit_tiny", home, store("vit_tiny", state, home, tmp_path))
        features = module(images)
        torch.testing.assert_close(features, expected(images), rtol=1e-4, atol=1e-5)
    assert features.shape == (2, BACKBONES["vit_tiny"].dim)
    assert module.encoder.pos_embedding.shape == (1, 37, 128)


@pytest.mark.parametrize(
    ("name", "weights", "size", "message"),
    [
        ("vit_b_16", "imagenet", 218, r"image-size = 218: must be a multiple of 16, .* 208 or 224"),
        ("vit_tiny", "drawn", 40, r"image-size = 40: .*'vit_tiny', such as 32 or 48"),
        (
            "vit_b_16",
            "drawn",
            224,
            r"'drawn': there are none for .*'vit_b_16'; take 'imagenet', or",
        ),
        ("vit_tiny", "imagenet", 96, r"'imagenet': there are none .*'vit_tiny'; take 'drawn', or"),
    ],
)
def test_settings_that_do_not_go_together(name, weights, size, message):
    with pytest.raises(InputError, match=message):
        check_settings(name, weights, size)


@pytest.mark.parametrize(
    ("name", "weights", "size"),
    [
        ("mobilenet_v2", "drawn", 97),
        ("mobilenet_v2", "imagenet", 218),
        ("vit_b_16", "imagenet", 224),
        ("vit_b_16", "mine.pt", 160),
        ("vit_tiny", "drawn", 96),
    ],
)
def test_settings_that_do(name, weights, size):
    check_settings(name, weights, size)


def test_backbone_is_frozen_and_stays_as_it_is(stored, home):
    module = load_backbone(NAME, home, stored)
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not any(part.training for part in module.modules())
    before = {key: value.clone() for key, value in module.state_dict().items()}
    module(torch.randn(4, 3, 64, 64))
    after = module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert sum("running" in key for key in before) == 104


def test_damaged_stored_weights_are_noticed(stored, home):
    path = weights_path(home, stored)
    whole = path.read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:1000], b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"{stored}\.safetensors is damaged .* delete it"):
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


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("mobilenet_v2", MobileNet_V2_Weights.IMAGENET1K_V2),
        ("vit_b_16", ViT_B_16_Weights.IMAGENET1K_V1),
    ],
)
def test_imagenet_is_torchvisions(name, weights):
    assert models.get_weight(BACKBONES[name].imagenet) is weights
    norm, backbone = weights.transforms(), BACKBONES[name]
    assert (backbone.mean, backbone.std) == (tuple(norm.mean), tuple(norm.std))


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
    with pytest.raises(InputError, match=r"imagenet-mobilenet_v2\.pth' is no whole file"):
        resolve_weights(NAME, "imagenet", home, never)


def test_drawn_weights_are_trained_once_and_kept(monkeypatch, home, stored, state):
    calls = []

    def train(backbone, table):
        calls.append((backbone, table))
        module = backbone.build()
        module.load_state_dict({k: v for k, v in state.items() if k.startswith("features.")})
        return module

    monkeypatch.setattr(pretrain, "pretrain", train)
    assert resolve_weights(NAME, "drawn", home, lambda: "faces") == stored
    assert resolve_weights(NAME, "drawn", home, never) == stored
    assert calls == [(BACKBONES[NAME], "faces")]
