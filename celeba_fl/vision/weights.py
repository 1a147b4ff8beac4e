"""Weights of a backbone: where they come from, and how they are kept.

Weights of every origin end as one safetensors file named by their hash, ``home/weights/<sha256>``;
processes and machines agree on weights by that hash. Which file has which hash is kept as well: a
run on stored weights imports neither torch nor torchvision on the server.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import hash_key, keep, write_bytes
from celeba_fl.common.log import LOG
from celeba_fl.vision.backbones import BACKBONES, Backbone

if TYPE_CHECKING:
    import torch
    from torch import nn

    State = dict[str, torch.Tensor]

# SHA-256 of the drawn weights that come with the package, so that every machine has the same ones:
# of `pretrain`, as float16.
SHIPPED = {"mobilenet_v2": "40216eced248b79b2cb764a13aea956993fdc1564d90f01423ccc9a78825b1d9"}


def weights_path(home: Path, sha256: str) -> Path:
    """File of the weights with this hash."""
    return home / "weights" / f"{sha256}.safetensors"


def resolve_weights(
    name: str, weights: str, home: Path, train: Callable[[Backbone], "nn.Module"]
) -> str:
    """Make the weights that a run config names available under their SHA-256 (hex), and return it.

    They are those of a key of `BACKBONES`: ``drawn`` (which come with the package, else trained by
    `train` at first use), ``imagenet`` (downloaded at first use), or the path of a ``.pt`` or
    ``.safetensors`` file with torchvision's keys.

    Raises
    ------
    InputError
        If the file is missing, unreadable or of another architecture, or the download fails.
    """
    if weights == "drawn":
        file = _drawn(name, home, train)
    elif weights == "imagenet":
        file = _imagenet(name, home)
    else:
        file = Path(weights).expanduser()
        if not file.is_file():
            raise InputError(
                f"weights = {weights!r}: no such file; take 'drawn', 'imagenet', "
                f"or the path of a .pt or .safetensors file"
            )
    stat = file.stat()
    key = hash_key(name, str(file.resolve()), stat.st_size, stat.st_mtime_ns)
    note = home / "weights" / f"{key}.sha256"
    if not note.exists() or not weights_path(home, note.read_text()).exists():
        from safetensors.torch import save

        state = _extractor_state(BACKBONES[name], name, weights, _read(file))
        sha256 = hash_state(state)
        write_bytes(weights_path(home, sha256), save(state))
        write_bytes(note, sha256.encode())
    return note.read_text()


def keep_weights(home: Path, sha256: str, data: bytes) -> None:
    """Keep weights that came in a message, as the file of their hash.

    Raises
    ------
    InputError
        If they have another hash.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        right = hash_state(load(data)) == sha256
    except SafetensorError:
        right = False
    if not right:
        raise InputError(f"the file that came as {sha256} is another one")
    write_bytes(weights_path(home, sha256), data)


def load_backbone(name: str, home: Path, sha256: str) -> "nn.Module":
    """The extractor with stored weights, frozen and in eval mode.

    Raises
    ------
    InputError
        If the stored file is missing, or its content does not have the hash in its name.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = weights_path(home, sha256)
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise InputError(
            f"{path} has vanished: start the run again, which brings it back, and delete "
            f"nothing in {home} during a run"
        ) from None
    except SafetensorError:
        state = {}
    if hash_state(state) != sha256:
        raise InputError(f"{path} is damaged (its content has another hash); delete it")
    module = BACKBONES[name].build()
    module.load_state_dict(state, strict=False)
    return module.eval().requires_grad_(False)


def hash_state(state: Mapping[str, "torch.Tensor"]) -> str:
    """SHA-256 (hex) over keys, types, shapes and values, whatever file they came in."""
    digest = hashlib.sha256()
    for key in sorted(state):
        array = state[key].contiguous().numpy()
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _extractor_state(backbone: Backbone, name: str, weights: str, state: Any) -> "State":
    """Keep the extractor's tensors, and refuse weights that do not fit it."""
    import torch

    if not isinstance(state, Mapping) or not all(torch.is_tensor(v) for v in state.values()):
        raise InputError(f"weights = {weights!r}: not a state dict (a mapping of names to tensors)")
    with torch.device("meta"):  # only the shapes matter
        module = backbone.build()
    wanted = {
        key: value.shape
        for key, value in module.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    for old, new in backbone.legacy.items():
        state = {key.replace(old, new): value for key, value in state.items()}
    given = {key: value for key, value in state.items() if key in wanted}
    wrong = [k for k in wanted if k not in given or given[k].shape != wanted[k]]
    if wrong:
        raise InputError(
            f"weights = {weights!r} are not those of backbone {name!r}: {len(wrong)} of "
            f"{len(wanted)} tensors are missing or of another shape, e.g. {wrong[0]!r}; "
            f"its keys must be torchvision's"
        )
    kept = {key: given[key].detach().to("cpu", torch.float32).contiguous() for key in wanted}
    for key, value in kept.items():
        if not value.isfinite().all():
            raise InputError(f"weights = {weights!r}: {key!r} has NaN or infinity in it")
    return kept


def _read(path: Path) -> Any:
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # no end to what pickle raises, nor to what torch advises then
        raise InputError(
            f"weights = {str(path)!r} is not a complete file of tensors ({type(error).__name__}); "
            f"it must be a state dict as torch.save or safetensors writes it"
        ) from error


def _imagenet(name: str, home: Path) -> Path:
    """Torchvision's weights, downloaded once a home."""
    file = home / "weights" / f"imagenet-{name}.pth"

    def download(path: Path) -> None:
        from torchvision.models import get_weight

        enum = get_weight(BACKBONES[name].imagenet)
        LOG.info("Downloading %s", enum.url)
        # By its name `clean_up` knows it, with all that a killed download leaves there.
        folder = path.with_name(f"{path.name}.part")
        try:
            enum.get_state_dict(progress=False, model_dir=str(folder), check_hash=True)
        except (OSError, RuntimeError) as error:  # unreachable, or of another hash
            raise InputError(
                f"weights = 'imagenet': cannot download {enum.url} ({error}); put that file "
                f"at {file}, give the path of another, or take weights = 'drawn'"
            ) from error
        (folder / Path(enum.url).name).rename(path)
        folder.rmdir()

    return keep(file, download)


def _drawn(name: str, home: Path, train: Callable[[Backbone], "nn.Module"]) -> Path:
    """Weights for the drawn faces: those that come with the package, else trained once a home."""

    def save(path: Path) -> None:
        from safetensors.torch import save_file

        if data := _shipped(name):
            path.write_bytes(data)
        else:
            save_file(train(BACKBONES[name]).state_dict(), path)

    return keep(home / "weights" / f"drawn-{name}.safetensors", save)


def _shipped(name: str) -> bytes | None:
    """The file of drawn weights of the installed package; the code itself may run from a bundle."""
    for folder in sys.path:
        file = Path(folder, "celeba_fl", "vision", f"drawn-{name}.safetensors")
        if name in SHIPPED and file.is_file():
            data = file.read_bytes()
            if hashlib.sha256(data).hexdigest() == SHIPPED[name]:
                return data
    return None
