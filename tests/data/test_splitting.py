"""One data set made into folders of sites."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.data import splitting
from celeba_fl.data.sources import load


def split(dataset: Path, out: Path, sites: int = 2, by: str = "identity") -> dict[str, int]:
    home = out.with_name("home")
    return splitting.split(str(dataset), sites, by, out, alpha=0.5, seed=1, home=home)


def rows(folder: Path, home: Path) -> set[tuple[str, int, bytes, int]]:
    """Name, identity, labels and split of each image."""
    table = load(str(folder), home)
    columns = table.image, table.celeb_id, np.packbits(table.labels, axis=1), table.split
    return {
        (str(n), int(who), bits.tobytes(), int(s)) for n, who, bits, s in zip(*columns, strict=True)
    }


def test_sites_and_server_hold_what_the_data_set_held(
    celeba_folder: Callable[..., Path], tmp_path: Path
) -> None:
    whole, home = celeba_folder(), tmp_path / "home"
    assert split(whole, tmp_path / "out") == {"site-1": 4, "site-2": 4, "server": 4}
    parts = [rows(tmp_path / "out" / name, home) for name in ("site-1", "site-2", "server")]
    assert set.union(*parts) == rows(whole, home)
    people = [{who for _, who, _, _ in part} for part in parts]
    assert not people[0] & people[1]
    assert [{split for *_, split in part} for part in parts] == [{0}, {0}, {1, 2}]


def test_images_are_links(celeba_folder: Callable[..., Path], tmp_path: Path) -> None:
    whole = celeba_folder()
    split(whole, tmp_path / "out", by="iid")
    image = next((tmp_path / "out" / "site-1").glob("*.jpg"))
    assert image.samefile(whole / "img_align_celeba" / image.name)


def test_what_cannot_be_split_leaves_nothing(
    celeba_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = celeba_folder(), tmp_path / "out"
    with pytest.raises(InputError, match="site-5 would get no image"):
        split(whole, out, sites=5)  # there are four people
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError(18, "Cross-device")))
    with pytest.raises(InputError, match=r"cannot be a link .*Cross-device.* on the same disk"):
        split(whole, out)
    assert not out.exists()
    out.mkdir()
    with pytest.raises(InputError, match="is there; name a new folder"):
        split(whole, out)
