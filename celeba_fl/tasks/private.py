"""The closed form under a budget of privacy: what leaves a client hides a person or an image.

The server learns `Public` statistics from images that are public, and sends them along. A client
need not believe them: whatever they are, it limits what an image or a person adds, and works out
for itself how much noise hides one of these, from the budget in the run config; see
`celeba_fl.models.private_rows`. Under secure sums it adds its part of the noise before the sums are
masked, so much that as many parts as must be in a total, `min-cohort`, hide what they should; with
fewer there is no total. Otherwise the server adds the noise, and is trusted to.

**Who is a person.** A site bounds how many images of each of its own people count. So the promise
is for a person at one site: whoever has images at m sites moves the total by up to m times as much.
Where the run deals out images itself, it deals people (`partitioner = natural`). Which images of a
person count depends on these images alone, see `units_of`.

Against the server all the noise counts. A client knows its own part, and clients who tell the
server theirs leave it with less: with c parts expected and t of them known, noise of the variance
(c - t) / c.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from celeba_fl.common.arrays import Arrays, Ints
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.models import private_ridge, private_rows
from celeba_fl.models.private_rows import Public, Release
from celeba_fl.privacy import ledger
from celeba_fl.privacy.noise import NOISE_PARTS, noise_multiplier, noisy
from celeba_fl.tasks.closed_form import part_of
from celeba_fl.tasks.examples import Examples

PUBLIC = "public"  # in the instructions of clients


def learn(config: RunConfig, images: Examples) -> Public:
    """The statistics of public images.

    Raises
    ------
    InputError
        If there are none.
    """
    if not len(images):
        raise InputError(
            f"privacy-epsilon = {config.privacy_epsilon:g}: directions and rates are learned from "
            f"public images, and the server has none of dataset = {config.dataset!r}: give it one "
            f"with a validation split, or raise public-fraction"
        )
    units = _units(config, images)
    return private_ridge.learn(images.features, images.labels, units, config.privacy_dim)


def noise_of(config: RunConfig, public: Public) -> tuple[float, float]:
    """The sensitivity of the sums, and the deviation of the noise that they need; in units."""
    multiplier = noise_multiplier(config.privacy_epsilon, config.privacy_delta)
    return public.clip, multiplier * public.clip


def release(config: RunConfig, public: Public) -> ledger.Release:
    """What a round lets out, for the ledger."""
    by = "the server" if config.privacy_noise == "server" else "each client its part, under masks"
    moved, sigma = noise_of(config, public)
    what = f"sums over rows of {public.k} directions and {public.outputs} labels of each image"
    return ledger.Release(what, f"discrete Gaussian, added by {by}", moved, sigma)


def zero_sums(public: Public) -> Arrays:
    """Sums of no image."""
    return _named(private_rows.zero_sums(public))


def sums_of(config: RunConfig, examples: Examples, instructions: Mapping[str, Any]) -> Arrays:
    """A client's sums over those images that count, with its part of the noise.

    Raises
    ------
    InputError
        If the statistics do not fit its features, nobody knows how many parts of noise there will
        be, or who is who.
    """
    public = Public.from_bytes(instructions[PUBLIC])
    if (len(public.mean), public.outputs) != (examples.features.shape[1], len(ATTRIBUTES)):
        raise InputError("public statistics: they are of other features", open_to_all=True)
    units = _units(config, examples)
    sums = private_rows.sums_of(examples.features, examples.labels, public, units)
    if config.privacy_noise == "clients":
        parts = instructions.get(NOISE_PARTS)
        if not isinstance(parts, int) or parts < 1:
            raise InputError("noise: how many clients add it is not known", open_to_all=True)
        sums = _with_noise(config, sums, public, parts)
    return _named(sums)


def solve(config: RunConfig, sums: Arrays, public: Public, images: Examples) -> Arrays:
    """The head of logits of noisy sums, by public images."""
    own = part_of(sums, "train")
    if config.privacy_noise == "server":
        own = _with_noise(config, own, public, parts=1)
    _, sigma = noise_of(config, public)
    release, units = Release.of(own, public, sigma), _units(config, images)
    return private_ridge.solve(release, images.features, images.labels, images.celeb_id, units)


def alone(public: Public, images: Examples) -> Arrays:
    """The head of logits of public images alone."""
    told = images.features, images.labels, images.celeb_id, public
    return private_ridge.public_alone(*told)


def _units(config: RunConfig, examples: Examples) -> list[Ints]:
    """What sums are of: the images of each person that count, or else single images."""
    table, rows = examples.table, examples.rows
    if config.privacy_unit != "person":
        return private_rows.each_alone(len(rows))
    if not table.identified:
        raise InputError(
            "privacy-unit = 'person': these images do not say who is who; add identities, or set "
            "privacy-unit = 'image'",
            open_to_all=True,
        )
    content = np.asarray(table.content)[rows]
    return private_rows.units_of(examples.celeb_id, content, config.max_images, config.seed)


def _with_noise(config: RunConfig, sums: Arrays, public: Public, parts: int) -> Arrays:
    """Sums with one of so many parts of their noise, from the system's source of randomness."""
    _, sigma = noise_of(config, public)
    return noisy(sums, private_rows.noise_scales(public, sigma), parts, os.urandom)


def _named(sums: Arrays) -> Arrays:
    return {f"train_{key}": array for key, array in sums.items()}
