"""Views: how they are written, how many features they have, and which cells are averaged."""

import numpy as np
import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.vision import pretrain, views
from celeba_fl.vision.backbones import BACKBONES
from celeba_fl.vision.views import Grid, View, make_view, shares

NAME = "mobilenet_v2"


@pytest.mark.parametrize(
    ("backbone", "features", "size", "dim"),
    [
        (NAME, "last", 224, 1280),
        (NAME, "last+mirrored", 224, 1280),
        (NAME, "0:1x1", 33, 32),
        (NAME, "13:4x4", 224, 1536),
        (NAME, "13:4x4+folded", 224, 768),
        (NAME, "13:3x3+folded", 96, 96 * 3 * 2),
        (NAME, "13:2x5+folded", 96, 96 * 2 * 3),
        (NAME, "10:4x4+13:4x4+17:2x2", 224, 3840),
        (NAME, "10:4x4+13:4x4+17:2x2+folded+mirrored", 224, 1920),
        (NAME, "13:4x4+last+folded", 224, 768 + 1280),
        ("vit_tiny", "last", 96, 128),
        ("vit_tiny", "3:2x2+last", 96, 128 * 5),
        ("vit_b_16", "12:14x14+folded", 224, 768 * 98),
    ],
)
def test_number_of_features(backbone: str, features: str, size: int, dim: int) -> None:
    view = make_view(backbone, features, size)
    assert (view.dim, view.features, view.image_size) == (dim, features, size)
    pooled = sum(
        BACKBONES[backbone].stages[grid.stage][0] * view.pooling(grid).shape[1]
        for grid in view.grids
    )
    assert dim == pooled + (BACKBONES[backbone].dim if view.last else 0)


def test_equal_features_are_written_alike() -> None:
    one = make_view(NAME, "mirrored+last+17:2x2+folded+013:4x04+10:4x4+10:2x4", 224)
    assert one.features == "10:2x4+10:4x4+13:4x4+17:2x2+last+folded+mirrored"
    assert make_view(NAME, one.features, 224) == one
    grids = Grid(10, 2, 4), Grid(10, 4, 4), Grid(13, 4, 4), Grid(17, 2, 2)
    assert one == View(NAME, 224, grids, last=True, folded=True, mirrored=True)


@pytest.mark.parametrize(
    ("features", "wrong"),
    [
        ("", r"'' is none of 'last', a stage .*'13:4x4'"),
        (
            "medium",
            r"'medium' is none of .* a name that .*'mobilenet_v2' has: fast, balanced, best",
        ),
        ("13:4x4+fast", r"'fast' is none of .* nor is the whole a name"),
        ("13:4x4,17:2x2", r"'13:4x4,17:2x2' is none of .* joined by '\+'"),
        ("13:4x4 + last", r"'13:4x4 ' is none of"),
        ("13:4x4+", r"'' is none of"),
        ("13:4", r"'13:4' is none of"),
        ("-1:4x4", r"'-1:4x4' is none of"),
        ("Last", r"'Last' is none of"),
        ("19:1x1", r"'19:1x1': backbone 'mobilenet_v2' has the stages 0 to 18"),
        ("13:0x4", r"'13:0x4': a grid has a row and a column at least, such as '13:1x1'"),
        (
            "13:4x4+17:4x2",
            r"'17:4x2' is finer than the map of that stage, which is 3 x 3 .* = 96; ",
        ),
        ("13:7x1", r"'13:7x1' is finer than the map of that stage, which is 6 x 6"),
        ("13:4x4+013:4x4", r"'13:4x4' is there twice; leave one out"),
        ("last+last", r"'last' is there twice"),
        ("13:4x4+folded+folded", r"'folded' is there twice"),
        ("last+folded", r"'folded' folds grids of two columns or more, of which there are none"),
        ("13:4x1+folded", r"'folded' folds grids of two columns or more"),
        ("mirrored", r"there is no stage in it; add 'last', or a stage such as '13:4x4'"),
    ],
)
def test_features_that_there_are_not(features: str, wrong: str) -> None:
    with pytest.raises(InputError) as error:
        make_view(NAME, features, 96)
    assert str(error.value).startswith(f"features = {features!r}: ")
    with pytest.raises(InputError, match=wrong):
        make_view(NAME, features, 96)


def test_stages_of_a_transformer_begin_at_one() -> None:
    with pytest.raises(InputError, match=r"'0:1x1': backbone 'vit_tiny' has the stages 1 to 4"):
        make_view("vit_tiny", "0:1x1", 96)


@pytest.mark.parametrize(
    ("backbone", "size", "wrong"),
    [
        ("vit_b_16", 218, r"image-size = 218: must be a multiple of 16, .* 208 or 224"),
        ("vit_tiny", 40, r"image-size = 40: .*'vit_tiny', such as 32 or 48"),
        (NAME, 31, r"image-size = 31: must be at least 32, or 0"),
        (
            "resnet50",
            224,
            r"backbone = 'resnet50': must be one of mobilenet_v2, vit_b_16, vit_tiny",
        ),
    ],
)
def test_images_or_backbones_that_do_not_go(backbone: str, size: int, wrong: str) -> None:
    with pytest.raises(InputError, match=wrong):
        make_view(backbone, "last", size)


def test_size_that_goes_with_the_features() -> None:
    """Who says a size gets it; the drawn weights know 96 pixels; a name has its own."""
    named = {name: size for name, (_, size) in BACKBONES[NAME].views.items()}
    for features in ("last", "13:2x2", *named):
        size = named.get(features, 224)
        assert make_view(NAME, features, 128, "drawn").image_size == 128
        assert make_view(NAME, features, 0, "drawn").image_size == 96
        assert make_view(NAME, features, 0, "imagenet").image_size == size
        assert make_view(NAME, features, 0, "mine.pt").image_size == size
    assert pretrain.IMAGE_SIZES[-1] == views.DRAWN_IMAGE_SIZE


@pytest.mark.parametrize("backbone", BACKBONES)
def test_names_are_views(backbone: str) -> None:
    """At their own sizes, and at that of the drawn weights."""
    assert [*BACKBONES[backbone].views] == ["fast", "balanced", "best"]
    for name, (spec, size) in BACKBONES[backbone].views.items():
        view = make_view(backbone, name)
        assert (view.features, view.image_size) == (spec, size)
        assert make_view(backbone, name, views.DRAWN_IMAGE_SIZE).features == spec


def test_shares_of_a_line() -> None:
    """Three places in two cells: the middle one lies half in each."""
    np.testing.assert_allclose(shares(2, 3), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])
    np.testing.assert_allclose(shares(2, 4), [[1 / 2, 1 / 2, 0, 0], [0, 0, 1 / 2, 1 / 2]])
    np.testing.assert_allclose(shares(3, 3), np.eye(3))
    for edge in range(1, 15):
        for cells in range(1, edge + 1):
            weights = shares(cells, edge)
            np.testing.assert_allclose(weights.sum(axis=1), 1)
            np.testing.assert_allclose(weights.sum(axis=0), cells / edge)
            np.testing.assert_allclose(weights[::-1, ::-1], weights, atol=1e-15)


def pool(features: str, size: int, plane: np.ndarray) -> np.ndarray:
    """The cells of a map (edge, edge) of stage 13."""
    view = make_view(NAME, features, size)
    return plane.ravel() @ view.pooling(view.grids[0])


def test_pooling_by_hand() -> None:
    """A map of 3 x 3 that holds 0 to 8."""
    plane = np.arange(9.0).reshape(3, 3)
    np.testing.assert_allclose(pool("13:3x3", 48, plane), np.arange(9), atol=1e-6)
    np.testing.assert_allclose(pool("13:1x1", 48, plane), [4], atol=1e-6)
    np.testing.assert_allclose(pool("13:3x1", 48, plane), [1, 4, 7], atol=1e-6)
    # Columns 0 and half of 1 weigh 2/3 and 1/3; so do rows.
    corner = (4 * 0 + 2 * 1 + 2 * 3 + 4) / 9
    np.testing.assert_allclose(
        pool("13:2x2", 48, plane), [corner, corner + 4 / 3, corner + 4, corner + 16 / 3], atol=1e-6
    )
    # The mean of cells at the same distance from the edge, and the column in the middle.
    np.testing.assert_allclose(pool("13:3x3+folded", 48, plane), [1, 1, 4, 4, 7, 7], atol=1e-6)
    np.testing.assert_allclose(pool("13:1x2+folded", 48, plane), [4], atol=1e-6)


@pytest.mark.parametrize("grid", ["2x2", "3x3", "4x5", "6x4", "1x6"])
def test_a_folded_map_equals_that_of_its_mirror_image(grid: str) -> None:
    plane = np.random.default_rng(0).normal(size=(6, 6))
    found = pool(f"13:{grid}+folded", 96, plane)
    np.testing.assert_allclose(found, pool(f"13:{grid}+folded", 96, plane[:, ::-1]), atol=1e-6)
    symmetric = plane + plane[:, ::-1]
    rows, columns = map(int, grid.split("x"))
    whole = pool(f"13:{grid}", 96, symmetric).reshape(rows, columns)
    half = pool(f"13:{grid}+folded", 96, symmetric).reshape(rows, -1)
    np.testing.assert_allclose(half, whole[:, : half.shape[1]], atol=1e-6)
