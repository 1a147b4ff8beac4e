"""Pictures of the drawn faces: an avatar for each set of labels, and what avatars lack.

The avatars are Pablo Stanley's "Avataaars" (https://avataaars.com, free for personal and commercial
use), composed by DiceBear; a few strokes are added for the attributes that they do not show.
"""

import io
import json
import random
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import resvg_py
from dicebear import Avatar, Style
from PIL import Image, ImageFilter

from celeba_fl.data.drawn_labels import BEARDS, CUT, NO_BEARD
from celeba_fl.data.schema import ATTRIBUTES

WIDTH, HEIGHT = 178, 218
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
LARGER_MOUTH = '<use transform="translate(76 135) scale(1.39)"'  # so that 96 pixels show it
CLIP = re.compile(r'<g clip-path="url\(#clip-\w+\)">')


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
