"""Faces drawn on this machine in CelebA's schema: the data set that needs no download.

The avatars are Pablo Stanley's "Avataaars" (https://avataaars.com, free for personal and commercial
use), composed by DiceBear; what they lack is added here as a few strokes. How often an attribute
occurs given `Male` and `Young` is CelebA's (``drawn.json``), and a label says what the picture
shows: a hat hides the hair, so that no hair attribute is labelled under it. Rates under 1 % or over
99 % are label noise in CelebA (women with beards, 0.3 %) and are taken as never and always.

The `pretrain` split is balanced instead, each drawn attribute near half of the faces on which it is
possible: a backbone that is trained on it must learn the rare ones too.
"""

import io
import json
import os
import random
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
import resvg_py
from dicebear import Avatar, Style
from PIL import Image, ImageFilter

from celeba_fl.common.log import Progress
from celeba_fl.data.schema import ATTRIBUTES, SPLITS

IDENTITIES = {"train": 200, "valid": 25, "test": 50, "pretrain": 100}
IMAGES_EACH = 20
WIDTH, HEIGHT = 178, 218
CHUNK = 50

# Labels without a drawing: all that can be predicted of them is what follows from Male and Young.
SAMPLED = (
    "Attractive", "Big_Lips", "Big_Nose", "Chubby", "Double_Chin",
    "High_Cheekbones", "Oval_Face", "Pointy_Nose", "Receding_Hairline",
)  # fmt: skip


def _columns(*names: str) -> list[int]:
    return [ATTRIBUTES.index(name) for name in names]


MALE, YOUNG, BLURRY = _columns("Male", "Young", "Blurry")
HAT, BALD, NO_BEARD = _columns("Wearing_Hat", "Bald", "No_Beard")
HAIR = _columns("Bald", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")  # at most one
TEXTURE = _columns("Straight_Hair", "Wavy_Hair")  # at most one
CUT = _columns("Straight_Hair", "Wavy_Hair", "Bangs")
BEARDS = _columns("5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns")
# The same in every image of an identity; the rest changes from image to image.
FIXED = HAIR + CUT + _columns(
    "Arched_Eyebrows", "Bushy_Eyebrows", "Pale_Skin", "Big_Lips", "Big_Nose", "Chubby",
    "Double_Chin", "High_Cheekbones", "Oval_Face", "Pointy_Nose", "Receding_Hairline",
)  # fmt: skip

DARK, GOLD = "#2b1d17", "#f5c400"
BACKGROUNDS = ("#b6e3f4", "#c0aede", "#d1d4f9", "#ffd5dc", "#8fb9aa", "#6c7a89", "#e8e8e8")
FABRICS = ("#262e33", "#5199e4", "#25557c", "#929598", "#7fbf8f", "#ff488e", "#c94c4c", "#f2e394")
FRAMES = ("#15191c", "#1d3f5e", "#6b1a1a")
SKINS = {False: ("#8d5a3c", "#b06a3b", "#d08b5b", "#edb98a"), True: ("#fdeee6",)}
SHADES = {
    "Black_Hair": ("#0f0d0d", "#1d1716"),
    "Blond_Hair": ("#e3c16f", "#efd48f"),
    "Brown_Hair": ("#6a3d25", "#7d4a2d"),
    "Gray_Hair": ("#a3a7ab", "#bfc3c6"),
}
OTHER_SHADES = ("#c93305", "#a3243b", "#f59797", "#5b6bb5")  # red and dyed

# DiceBear's names of the variants. Haircuts by Male and by the labels that they show.
HAIRCUTS: dict[tuple[bool, frozenset[str]], tuple[str, ...]] = {
    (False, frozenset()): ("bun",),
    (False, frozenset({"Bangs"})): ("bob", "longButNotTooLong"),
    (False, frozenset({"Straight_Hair"})): ("straight01", "straight02"),
    (False, frozenset({"Straight_Hair", "Bangs"})): ("straightAndStrand", "miaWallace"),
    (False, frozenset({"Wavy_Hair"})): ("curly", "dreads", "fro"),
    (False, frozenset({"Wavy_Hair", "Bangs"})): ("curvy",),
    (True, frozenset()): ("theCaesar", "theCaesarAndSidePart", "frizzle"),
    (True, frozenset({"Bangs"})): ("shortRound",),
    (True, frozenset({"Straight_Hair"})): ("shortFlat",),
    (True, frozenset({"Straight_Hair", "Bangs"})): ("shaggy",),
    (True, frozenset({"Wavy_Hair"})): ("shortWaved", "shortCurly", "dreads01"),
    (True, frozenset({"Wavy_Hair", "Bangs"})): ("shaggyMullet",),
}
HATS = {False: ("hat", "winterHat02", "hijab"), True: ("hat", "winterHat02", "turban")}
CLOTHES = {
    False: ("shirtScoopNeck", "overall", "blazerAndSweater"),
    True: ("shirtCrewNeck", "hoodie", "collarAndSweater", "blazerAndShirt"),
}
SUIT = "blazerAndShirt"
MOUTHS = {  # by Smiling and Mouth_Slightly_Open
    (False, False): ("serious",),
    (False, True): ("concerned", "disbelief"),
    (True, False): ("twinkle",),
    (True, True): ("smile", "default"),
}
EYES = {False: ("default", "surprised"), True: ("closed", "happy")}  # by Narrow_Eyes
GLASSES = ("prescription01", "prescription02", "round")


def _fill(path: str, colour: str, opacity: float = 1) -> str:
    return f'<path d="{path}" fill="{colour}" fill-opacity="{opacity}"/>'


def _line(path: str, colour: str, width: float, opacity: float = 1) -> str:
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
        f'stroke-opacity="{opacity}" stroke-linecap="round"/>'
    )


# In the avatar's 280 x 280 units, where the face spans x 84..196, y 36..186.
UNDER = {  # under mouth, nose, eyes and hair
    "Wrinkles": _line("M119 139q-10 7-9 19M161 139q10 7 9 19M118 66h44M122 57h36", "#000", 3, 0.4),
    "5_o_Clock_Shadow": _fill(
        "M84 122v8a56 56 0 0 0 112 0v-8q-8 18-28 17h-56q-20 1-28-17", DARK, 0.35
    ),
    "Goatee": _fill("M120 171q20-7 40 0v6q-20 26-40 0z", DARK),
    "Jaw_Beard": _line("M87 130a53 53 0 0 0 106 0", DARK, 9),
    "Rosy_Cheeks": _line("M101 137h.1m78 0h.1", "#ff4d6d", 22, 0.55),
    "Heavy_Makeup": _line("M110 107h8m44 0h8", "#7b3fb5", 27, 0.7),
    "Bags_Under_Eyes": _line("M103 124q10 9 21 0m32 0q10 9 21 0", "#000", 4, 0.45),
    "Wearing_Lipstick": _fill("M104 156q18-16 36-10 18-6 36 10-36 37-72 0", "#c2123f"),
}
OVER = {  # over everything
    "Mustache": _fill("M140 138q-17-5-28 10 18 3 28-3 10 6 28 3-11-15-28-10", DARK),
    "Sideburns": _fill("M84 92v38l7 22q5-24 3-60zm112 0v38l-7 22q-5-24-3-60z", DARK),
    "Wearing_Earrings": _line("M78 143h.1m124 0h.1", GOLD, 13),
    "Wearing_Necklace": _line("M112 200q28 38 56 0", GOLD, 5),
    "Wearing_Necktie": _fill("M131 207h18l-4 12 9 40-14 14-14-14 9-40z", "#b3122d"),
}
MOUTH = '<use transform="translate(94 140)"'  # the first part of the face in an avatar's SVG
LARGER_MOUTH = '<use transform="translate(76 135) scale(1.39)"'  # to be told at 96 pixels
CLIP = re.compile(r'<g clip-path="url\(#clip-\w+\)">')


def sample(split: str, identities: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose who is on the images of a split, and how each image looks.

    The draws are a Latin hypercube within each group of Male and Young, so that rates come close to
    CelebA's even with few identities.

    Parameters
    ----------
    split : str
        One of `SPLITS`.
    identities : int
        How many persons; each has `IMAGES_EACH` images.
    seed : int
        The same seed gives the same split, whatever the other splits are.

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        The identity of each image, (n,) int64 from 0, shuffled; and the labels, (n, 40) bool.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    joint, chances = _chances(balanced=split == "pretrain")
    ranks = (rng.permutation(identities) + 0.5) / max(identities, 1)
    group = np.searchsorted(np.cumsum(joint)[:-1], ranks)
    who = rng.permutation(np.repeat(np.arange(identities), IMAGES_EACH))
    draws = _spread(rng, group[who])
    draws[:, FIXED] = _spread(rng, group)[who][:, FIXED]
    p = chances[group[who]]

    labels = draws < p
    labels[:, MALE], labels[:, YOUNG] = np.divmod(group[who], 2)
    for exclusive in (HAIR, TEXTURE):
        bounds = np.cumsum(p[:, exclusive], axis=1)
        choice = (draws[:, exclusive[:1]] >= bounds).sum(axis=1)
        labels[:, exclusive] = choice[:, None] == np.arange(len(exclusive))
    labels[:, CUT] &= ~labels[:, [BALD]]
    labels[:, HAIR + CUT] &= ~labels[:, [HAT]]
    labels[:, BEARDS] &= ~labels[:, [NO_BEARD]]
    return who, labels


def _chances(balanced: bool) -> tuple[np.ndarray, np.ndarray]:
    """Shares (4,) of the groups (2 Male + Young), and each attribute's chance (4, 40) in a group.

    A chance is conditional on the attribute being possible at all: hair without a hat, a haircut
    with hair, a kind of beard with a beard.
    """
    table = json.loads(Path(__file__).with_suffix(".json").read_text())
    joint = np.array(table["joint"])
    p = np.array([table["rates"].get(name, [0.0] * 4) for name in ATTRIBUTES]).T
    p[p < 0.01], p[p > 0.99] = 0, 1
    if balanced:
        sharp = np.delete(np.arange(len(ATTRIBUTES)), BLURRY)  # blur would hide the others
        p[:, sharp] = np.where((p > 0) & (p < 1), 0.5, p)[:, sharp]
        p[:, HAIR] /= 3  # five of them or another colour: 1/6 each
        p[:, TEXTURE] /= 1.5  # straight, wavy or neither: 1/3 each
        return np.full(4, 0.25), p
    bare = 1 - p[:, [HAT]]
    p[:, CUT] /= bare - p[:, [BALD]]
    p[:, HAIR] /= bare
    p[:, BEARDS] /= np.maximum(1 - p[:, [NO_BEARD]], 1e-9)  # 0 / 0 for women
    return joint, p


def _spread(rng: np.random.Generator, group: np.ndarray) -> np.ndarray:
    """Uniform numbers (n, 40), in each group and column one from each of its equal slices of 0..1.

    Source: McKay et al., "A Comparison of Three Methods for Selecting Values of Input Variables",
    Technometrics 1979 (Latin hypercube sampling).
    """
    draws = np.empty((len(group), len(ATTRIBUTES)))
    for value in np.unique(group):
        rows = np.flatnonzero(group == value)
        slices = np.tile(np.arange(len(rows))[:, None], len(ATTRIBUTES))
        draws[rows] = (rng.permuted(slices, axis=0) + rng.random(slices.shape)) / len(rows)
    return draws


@dataclass(frozen=True)
class Face:
    """One image to draw: its file name, position in `SPLITS`, identity and (40,) bool labels."""

    name: str
    code: int
    person: int
    labels: np.ndarray


@cache
def _style() -> Style:
    return Style(json.loads(files("dicebear_styles").joinpath("avataaars.json").read_text("utf-8")))


def render(face: Face, seed: int) -> bytes:
    """Draw one face as a JPEG, 178 wide and 218 high."""
    on = {name for name, label in zip(ATTRIBUTES, face.labels, strict=True) if label}
    male, hat = "Male" in on, "Wearing_Hat" in on
    kept = random.Random(f"{seed} {face.person}")  # for what an identity keeps
    free = random.Random(f"{seed} {face.name}")
    skin = kept.choice(SKINS["Pale_Skin" in on])
    hair = kept.choice(next((SHADES[name] for name in SHADES if name in on), OTHER_SHADES))
    shown = frozenset(on & {ATTRIBUTES[i] for i in CUT})
    cut = "sides" if "Bald" in on else kept.choice(HAIRCUTS[male, shown])
    avatar = Avatar(
        _style(),
        {
            "seed": face.name,
            "skinColor": skin,
            "hairColor": hair,
            "topVariant": free.choice(HATS[male]) if hat else cut,
            "hatColor": free.choice(FABRICS),
            "clothesVariant": SUIT if "Wearing_Necktie" in on else free.choice(CLOTHES[male]),
            "clothesColor": free.choice(FABRICS),
            "mouthVariant": free.choice(MOUTHS["Smiling" in on, "Mouth_Slightly_Open" in on]),
            "eyesVariant": free.choice(EYES["Narrow_Eyes" in on]),
            "accessoriesVariant": free.choice(GLASSES),
            "accessoriesColor": free.choice(FRAMES),
            "accessoriesProbability": 100 * ("Eyeglasses" in on),
            "facialHairProbability": 0,
            "eyebrowsProbability": 0,
        },
    )
    if "Young" not in on:
        on.add("Wrinkles")
    if on.isdisjoint(ATTRIBUTES[i] for i in [NO_BEARD, *BEARDS]):
        on.add("Jaw_Beard")
    rise, stroke = 22 if "Arched_Eyebrows" in on else 2, 8 if "Bushy_Eyebrows" in on else 3
    brows = _line(f"M99 92q15-{rise} 30 0m22 0q15-{rise} 30 0", DARK, stroke)
    under = "".join(strokes for name, strokes in UNDER.items() if name in on)
    over = brows + "".join(strokes for name, strokes in OVER.items() if name in on)
    width = free.uniform(186, 206)
    height = width * HEIGHT / WIDTH
    left, top = 140 - width / 2 + free.uniform(-6, 6), 132 - height / 2 + free.uniform(-5, 5)
    svg = str(avatar).replace(MOUTH, under + LARGER_MOUTH, 1)
    svg = svg.replace("</g></svg>", over + "</g></svg>", 1)
    # Size and view go into the SVG: resvg's own `height` is rounded up to 219 half of the time.
    view = f'width="{WIDTH}" height="{HEIGHT}" viewBox="{left} {top} {width} {height}"'
    svg = svg.replace('viewBox="0 0 280 280"', view, 1)
    # The avatar's own clip costs a third of the rendering, and the view box cuts off more anyway.
    svg = CLIP.sub(f'<g transform="rotate({free.uniform(-6, 6)} 140 140)">', svg, count=1)

    png = resvg_py.svg_to_bytes(svg, background=free.choice(BACKGROUNDS), skip_system_fonts=True)
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    if "Blurry" in on:
        picture = picture.filter(ImageFilter.GaussianBlur(2))
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=90)
    return jpeg.getvalue()


def plan(seed: int, identities: Mapping[str, int]) -> list[Face]:
    """Choose all faces, split after split; identities count from 1 through all splits."""
    faces: list[Face] = []
    first = 1
    for code, split in enumerate(SPLITS):
        count = identities.get(split, 0)
        for person, labels in zip(*sample(split, count, seed), strict=True):
            faces.append(Face(f"{len(faces) + 1:06d}.jpg", code, first + int(person), labels))
        first += count
    return faces


def draw(
    folder: Path,
    seed: int = 42,
    identities: Mapping[str, int] = IDENTITIES,
    processes: int | None = None,
) -> None:
    """Draw a data set in the official CelebA layout.

    Writes ``img_align_celeba/000001.jpg`` and so on, ``list_attr_celeba.txt``,
    ``list_eval_partition.txt`` and ``identity_CelebA.txt``. All of it is drawn beside `folder` and
    then renamed, so that `folder` is whole from the moment it exists. Where several processes draw
    the same folder at once, the first to be done gives it and the others drop theirs, which are
    byte-identical.

    Parameters
    ----------
    folder : Path
        Where to; its parents are made.
    seed : int (default: 42)
        The same seed gives the same bytes, whatever the number of processes.
    identities : Mapping[str, int] (default: `IDENTITIES`)
        Split to number of persons, each with `IMAGES_EACH` images; no person is in two splits.
    processes : int | None (default: None)
        None takes all cores.

    Raises
    ------
    FileExistsError
        If `folder` exists already.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; faces are drawn into a new folder only")
    faces = plan(seed, identities)
    unfinished = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    images = unfinished / "img_align_celeba"
    images.mkdir(parents=True)
    try:
        _draw_all(faces, partial(_draw_chunk, images, seed), processes or os.cpu_count() or 1)
        attributes = (
            f"{face.name} {' '.join(f'{value:2d}' for value in np.where(face.labels, 1, -1))}"
            for face in faces
        )
        header = (str(len(faces)), " ".join(ATTRIBUTES))
        _write(unfinished / "list_attr_celeba.txt", (*header, *attributes))
        _write(unfinished / "list_eval_partition.txt", (f"{f.name} {f.code}" for f in faces))
        _write(unfinished / "identity_CelebA.txt", (f"{f.name} {f.person}" for f in faces))
        unfinished.rename(folder)
    except OSError:
        if not folder.exists():  # else another process was first
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(path: Path, lines: Iterable[str]) -> None:
    """Write lines as the official files have them, ending in CR and LF."""
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())


def _draw_all(faces: list[Face], work: Callable[[list[Face]], int], processes: int) -> None:
    """Do `work` on chunks of the faces; in processes, since resvg holds the interpreter lock."""
    progress = Progress("Drawing faces", len(faces))
    chunks = [faces[i : i + CHUNK] for i in range(0, len(faces), CHUNK)]
    processes = min(processes, len(chunks))
    if processes < 2:
        for chunk in chunks:
            progress.advance(work(chunk))
        return
    # Spawned: the caller may be a thread of a process with many, whose locks a fork would copy.
    with ProcessPoolExecutor(processes, get_context("spawn"), _end_with_parent) as pool:
        for count in pool.map(work, chunks):
            progress.advance(count)


def _draw_chunk(images: Path, seed: int, faces: list[Face]) -> int:
    for face in faces:
        (images / face.name).write_bytes(render(face, seed))
    return len(faces)


def _end_with_parent() -> None:
    """Have this worker end when its parent is killed; it would wait for more work forever."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
