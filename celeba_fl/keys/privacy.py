"""Keys: how much what a run releases may tell of a person, and who adds the noise for that."""

from dataclasses import dataclass
from typing import Any

from celeba_fl.common.errors import InputError
from celeba_fl.common.keys import Keyed, key
from celeba_fl.keys.readers import HEAD


@dataclass(frozen=True)
class PrivacyKeys(Keyed):
    """How much what a run releases may tell of a person, and who adds the noise for that."""

    privacy_epsilon: float = key(
        "budget of differential privacy that a run may spend; 0: off, and nothing is noisy",
        0.0,
        low=0,
        high=20,
        of=HEAD,
    )
    privacy_delta: float = key(
        "chance with which that promise may fail; should be below 1 / number of those protected",
        1e-5,
        above=0,
        high=0.01,
        of=HEAD,
    )
    privacy_unit: str = key(
        "whose presence it hides: all images of a person, one image, or (fedavg) a whole client",
        "person",
        choices=("person", "image", "client"),
        of=HEAD,
    )
    max_images: int = key(
        "number of a person's images that count, if a person is the unit", 10, low=1, of=HEAD
    )
    privacy_dim: int = key(
        "number of public directions that features are projected onto before noise is added",
        128,
        low=1,
        high=1024,
        of=HEAD,
    )
    clipping_norm: float = key(
        "norm to which the update of a client is clipped, if a client is the unit",
        1.0,
        above=0,
        of=HEAD,
    )
    privacy_noise: str = key(
        "who adds the noise: each client its part under the masks, or a server that sees sums",
        "clients",
        choices=("clients", "server"),
        of=HEAD,
    )


def check_budget(config: Any) -> None:
    """Raise InputError where a budget of privacy does not go with the rest."""
    epsilon, unit = f"privacy-epsilon = {config.privacy_epsilon:g}", config.privacy_unit
    if not config.private:
        values, usual = config.to_dict(), PrivacyKeys().to_dict()
        if idle := [f"{name} = {values[name]!r}" for name in usual if values[name] != usual[name]]:
            raise InputError(f"{', '.join(idle)}: says nothing while {epsilon}; set that above 0")
        return
    if config.strategy not in ("closed-form", "fedavg"):
        raise InputError(
            f"{epsilon}: is kept by strategy = 'closed-form', or by 'fedavg' with privacy-unit "
            f"= 'client', not by {config.strategy!r}; change it"
        )
    if config.init != "public":
        raise InputError(
            f"init = {config.init!r}: under {epsilon} a run begins with what public images alone "
            f"give, which its figures stand beside; set init = 'public'"
        )
    if (unit == "client") != (config.strategy == "fedavg"):
        raise InputError(
            f"privacy-unit = {unit!r}: strategy = {config.strategy!r} hides "
            f"{'a client' if config.strategy == 'fedavg' else 'a person or an image'}; change it"
        )
    if unit == "person" and config.partitioner != "natural" and config.dataset != "none":
        raise InputError(
            f"privacy-unit = 'person': takes clients that share no person, and partitioner = "
            f"{config.partitioner!r} parts a person's images; set partitioner = 'natural', or "
            f"privacy-unit = 'image'"
        )
    if unit == "client":
        _check_averaging(config)
    if config.privacy_noise == "clients" and not config.secure_aggregation:
        raise InputError(
            "privacy-noise = 'clients': each adds its part, which hides nothing alone; set "
            "secure-aggregation = true, or 'server' if the server may see exact sums"
        )
    if config.privacy_noise == "server" and config.secure_aggregation:
        raise InputError(
            "privacy-noise = 'server': under secure-aggregation the clients add it, so that "
            "nobody sees exact sums; leave it out"
        )
    if config.attack != "none" and config.strategy == "closed-form":
        raise InputError(
            f"attack = {config.attack!r}: falsifies exact sums, and under {epsilon} there are "
            f"none; set it to none"
        )
    if config.group_weighting or config.fair_groups:
        raise InputError(
            f"group-weighting = {config.group_weighting!r}, fair-groups = {config.fair_groups!r}: "
            f"take sums of groups, which are not released under {epsilon}; leave them out"
        )


def _check_averaging(config: Any) -> None:
    """Raise InputError where clients cannot be hidden by clipping and noise on the server."""
    told = {
        "secure-aggregation": (config.secure_aggregation, False),
        "privacy-noise": (config.privacy_noise, "server"),
        "weighting": (config.weighting, "uniform"),
        "fraction-train": (config.fraction_train, 1.0),
        "class-weights": (config.class_weights, False),
        "pre-aggregation": (config.pre_aggregation, "none"),
    }
    for name, (value, right) in told.items():
        if value != right:
            raise InputError(
                f"{name} = {value!r}: with privacy-unit = 'client' the server clips the "
                f"update of each client, all of which count alike in each round and tell "
                f"nothing else; set it to {right!r}"
            )
    if config.max_update_norm not in (0.0, config.defaults()["max-update-norm"]):
        raise InputError(
            f"max-update-norm = {config.max_update_norm:g}: updates are clipped (clipping-norm), "
            f"none is left out; leave it out"
        )
