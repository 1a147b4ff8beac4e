"""Who masks with whom, how many shares give a secret back, and how few may answer.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017,
for up to `COMPLETE` clients: each masks with each other. For more, Bell et al., "Secure
Single-Server Aggregation with (Poly)Logarithmic Overhead", CCS 2020: each masks with `degree`
others, its neighbours in a ring whose order is random.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from math import comb

COMPLETE = 20
# Of the clients, so many may show the server all that they know, and as many may drop out.
SHARE = 0.1
# The chances that this is not enough to keep a secret, and that an exchange is lost.
SECRECY, LOSS = 2.0**-40, 2.0**-20


@dataclass(frozen=True)
class Plan:
    """The form of an exchange.

    Each client gives shares of its secrets to itself and `degree` others, of which `threshold` give
    them back: more than half. So whatever a server tells whom, it cannot have both of a client's
    secrets from clients that each give one of them.
    """

    degree: int
    threshold: int


@cache
def plan(number: int) -> Plan:
    """The form of an exchange of so many clients.

    Above `COMPLETE`, the smallest even degree k and threshold t for which, with c clients of n that
    collude with the server and d that drop out, c = d = n `SHARE`:

    - no client has t neighbours or more that collude. Neighbours are drawn without replacement, so
      by the union bound the chance is at most n P[H(n - 1, c, k) >= t], H hypergeometric;
    - those that neither collude nor drop out hang together, else the server would have the sum of a
      part of them. A ring falls apart only where k / 2 in a row are missing in two places; the
      chance is at most C(n, 2) C(n - k, c + d - k) / C(n, c + d);
    - and enough are left for everybody's shares: with at most n P[H(n - 1, d, k) > k - t] an
      exchange is lost, and tried again.

    The first two are below 2^-40, the last is below 2^-20. For 50 clients that makes k = 12 and
    t = 7, for 100 k = 22 and t = 12, for 1,000 k = 46 and t = 26.
    """
    colluding = int(SHARE * number)
    if number > COMPLETE:
        for degree in range(2, number - 1, 2):
            # Of sums of terms, the threshold is the first that keeps the secret.
            for threshold in range((degree + 1) // 2 + 1, degree + 1):
                if number * _tail(number - 1, colluding, degree, threshold) <= SECRECY:
                    break
            else:
                continue
            gone = 2 * colluding
            left = comb(number - degree, gone - degree) if gone >= degree else 0
            apart = comb(number, 2) * left / comb(number, gone)
            lost = number * _tail(number - 1, colluding, degree, degree - threshold + 1)
            if apart <= SECRECY and lost <= LOSS:
                return Plan(degree, threshold)
    return Plan(number - 1, number // 2 + 1)


def _tail(number: int, marked: int, drawn: int, least: int) -> float:
    """The chance that, of so many drawn without replacement, at least so many are marked."""
    most = min(marked, drawn)
    ways = (comb(marked, i) * comb(number - marked, drawn - i) for i in range(least, most + 1))
    return sum(ways) / comb(number, drawn)


def holders(members: Iterable[str], seed: bytes) -> dict[str, list[str]]:
    """Who holds shares of whom, sorted: each client itself, and its neighbours by the seed."""

    def place(name: str) -> bytes:
        return hashlib.sha256(seed + name.encode()).digest()

    ring = sorted(members, key=place)
    number, degree = len(ring), plan(len(ring)).degree
    if degree == number - 1:
        return dict.fromkeys(sorted(ring), sorted(ring))
    reach = range(-degree // 2, degree // 2 + 1)
    near = {ring[i]: sorted(ring[(i + step) % number] for step in reach) for i in range(number)}
    return dict(sorted(near.items()))


def least(min_cohort: int, number: int) -> int:
    """How many of so many clients must be in a total: `min_cohort`, at 0 three or half of them.

    Above `COMPLETE`, no more than `SHARE` of them may be missing in any case: with more, neighbours
    that are left need not hang together, and the server would have sums of parts of them.
    """
    most_missing = int(SHARE * number) if number > COMPLETE else number
    return max(min_cohort or max(3, (number + 1) // 2), number - most_missing)
