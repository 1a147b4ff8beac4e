"""What must hold for the promise of a privacy budget to hold, in plain words."""

ALWAYS = (
    "The sites run this app as it is, and keep their images, their logs and their keys to "
    "themselves.",
    "Nothing is promised of when a message came, of whether a client answered, or of what anybody "
    "publishes besides this run, such as what celeba-fl baseline computes of all images.",
    "Where clients are simulated, whoever simulates them has their images: log.txt says what goes "
    "wrong with these, and run.json how many there are and their fingerprint. Leave both out of "
    "what you pass on.",
    "Runs add up: two runs on the same images say more than one, and each site's own ledger counts "
    "them (privacy-limit).",
)
SERVER = {
    "clients": "The server follows the protocol of secure sums, and fewer clients than the "
    "threshold show it what they know: then it never sees a total without noise. Clients that show "
    "it their own noise take that off the total: t of the c that must be in it leave noise of the "
    "variance (c - t) / c.",
    "server": "The server is trusted: it sees what clients send without noise, adds the noise "
    "before it shows anything, and forgets the rest.",
}
UNITS = {
    "person": "The promise is for all images of a person within a site; of somebody whose images "
    "are with two sites, it holds for each of these by itself.",
    "image": "The promise is for a single image; of somebody with many images much more can be "
    "known.",
    "client": "The promise is for a client, with all that it holds, and it takes all clients in "
    "every round.",
}
FLOATING = "Flower draws the noise in floating point, by NumPy, not from a cryptographic source."
AUDIT = (
    "The folder audit/ of the run keeps what has arrived at the server, without noise: it is not "
    "covered."
)


def assumptions(unit: str, noise: str, audit: bool = False) -> list[str]:
    """The assumptions of a run that protects such a unit and has its noise from there."""
    more = [FLOATING] if unit == "client" else []
    kept = [AUDIT] if audit and noise == "server" else []
    return [UNITS[unit], SERVER[noise], *ALWAYS, *more, *kept]
