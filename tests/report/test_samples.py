"""The section on generated pictures, from run directories by hand."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from celeba_fl.report.html import Picture, Pictures
from celeba_fl.report.plots import embed
from celeba_fl.report.reading import Run
from celeba_fl.report.sections.samples import animation, samples
from celeba_fl.runs.tables import write_csv

EPOCHS = [
    {"round": r, "client": c, "epoch": e, "train_generator_loss": r + e, "train_x_loss": c}
    for r in (1, 2)
    for c in (0, 1)
    for e in (1, 2)
]


def write_grids(run: Path, number: int) -> None:
    (run / "samples").mkdir()
    for i in range(number):
        colour = tuple(np.random.default_rng(i).integers(0, 256, 3).tolist())
        Image.new("RGB", (32, 16), colour).save(run / "samples" / f"round-{i:04d}.png")


def shown(path: Path) -> tuple[str, list[Picture]]:
    """The section's text and its pictures."""
    text, pictures = samples(Run.read(path))
    assert isinstance(text, str)
    assert isinstance(pictures, Pictures)
    return text, list(pictures.pictures)


def test_a_run_without_pictures_has_no_section(make_run) -> None:
    assert samples(Run.read(make_run())) == []


@pytest.mark.parametrize(
    ("number", "named"), [(1, [0]), (2, [0, 1]), (6, [0, 2, 3, 5]), (101, [0, 33, 67, 100])]
)
def test_some_rounds_are_shown_the_first_and_the_last_among_them(make_run, number, named) -> None:
    run = make_run()
    write_grids(run, number)
    _, pictures = shown(run)
    captions = [picture.caption for picture in pictures]
    grids = ["Before training." if i == 0 else f"After round {i}." for i in named]
    assert captions[: len(named)] == grids
    assert len(captions) == len(named) + (number > 1)
    for picture in pictures:
        embedded = embed(picture, run / "plots")
        assert embedded.url.startswith("data:image/webp;base64,")
        assert (embedded.width, embedded.height) == (32, 16)
    kept = {path.name for path in (run / "plots").iterdir()}
    moving = {"samples.webp"} if number > 1 else set()
    assert kept == {f"samples-{i:04d}.webp" for i in named} | moving


def test_the_animation_has_all_rounds_in_their_order(make_run) -> None:
    run = make_run()
    write_grids(run, 5)
    grids = sorted((run / "samples").iterdir())
    with Image.open(io.BytesIO(animation(grids))) as moving:
        assert getattr(moving, "n_frames", 1) == 5
        assert moving.info["loop"] == 0
        for i, path in enumerate(grids):
            moving.seek(i)
            found = np.asarray(moving.convert("RGB")).astype(int)
            with Image.open(path) as grid:
                assert abs(found - np.asarray(grid)).max() < 8


def test_losses_and_distances_are_told(make_run) -> None:
    run = make_run(info={"judged_faces": 500})
    write_grids(run, 3)
    write_csv(run / "epochs.csv", EPOCHS)
    distances = {"server_valid_frechet_distance": 9, "test_frechet_distance": 7.25}
    write_csv(run / "rounds.csv", [{"round": 2, **distances, "test_real_frechet_distance": 4}])
    text, pictures = shown(run)
    assert (
        "After round 2, the Fréchet distance of generated faces to those of the test split is"
        in text
    )
    assert "is 7.250; that of real faces to other real ones is 4.000." in text
    assert text.endswith(
        "compare it only with distances of the same backbone and of as many faces (500)."
    )
    assert pictures[-1].alt.endswith("in the median: generator loss 3.500, x loss 0.500.")
    assert pictures[-1].name == "clients_epochs"


def test_without_a_test_split_validation_is_told(make_run) -> None:
    run = make_run()
    write_grids(run, 1)
    row = {"round": 0, "server_valid_frechet_distance": 9, "test_frechet_distance": None}
    write_csv(run / "rounds.csv", [row])
    text, _ = shown(run)
    assert "to those of the validation split is 9.000. It is computed" in text
