"""What a site needs before it joins, tried one after the other: `celeba-fl check-site`.

Each try has an answer: what is right, or what to do. What is tried at the server is what a
SuperNode asks of it; with the site's key, it is online for a moment.
"""

import os
import shutil
import socket
import ssl
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np

from celeba_fl.client_app import LIMIT, MIN_COHORT, own_least
from celeba_fl.common import flower
from celeba_fl.common.errors import InputError
from celeba_fl.data import sources
from celeba_fl.data.images import BadImageError, decode
from celeba_fl.data.schema import SPLITS
from celeba_fl.data.table import Table
from celeba_fl.deployment.front import FLEET
from celeba_fl.privacy import site
from celeba_fl.privacy.roster import ROSTER, SIGNING_KEY, identity_of
from celeba_fl.task import client_name

KEYS = (
    *("site", "data-path", "partition-id", "num-partitions", "teacher"),
    *(ROSTER, SIGNING_KEY, MIN_COHORT, LIMIT, site.DELTA, site.UNIT),
)
SECONDS = 10.0  # that a server may take for an answer
CLOCK_SECONDS = 60.0  # Flower refuses a clock that is five minutes off
SOON_DAYS = 30  # a certificate ends so soon that it should be told
TRIED_IMAGES = 200
ROW_BYTES = 3 * 1280 * 4  # features of an image, and as much room again for pixels and tables


class Answer(NamedTuple):
    """What a try gave: what was tried, whether it is right, and what is so, or what to do."""

    what: str
    right: bool
    words: str


@dataclass(frozen=True)
class Server:
    """How a site reaches its server: ``host:port``, the CA's file, and the file of its own key."""

    address: str
    root: Path | None = None
    key: Path | None = None

    @property
    def name(self) -> str:
        """The server's name, or its IP address."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port of its front; InputError if the address has none."""
        port = self.address.rpartition(":")[2]
        if "/" in self.address or not self.name or not port.isdecimal():
            raise InputError(
                f"--superlink {self.address!r}: should be a name and a port, such as "
                f"fl.example.org:443, without https://"
            )
        return int(port)

    def context(self) -> ssl.SSLContext:
        """What certificates are checked with."""
        if self.root and not self.root.is_file():
            raise InputError(f"--root-certificates {self.root}: there is no such file")
        try:
            return ssl.create_default_context(cafile=self.root and str(self.root))
        except ssl.SSLError:
            raise InputError(
                f"--root-certificates {self.root}: is no certificate; take the ca.crt of "
                f"`celeba-fl credentials`"
            ) from None


def check_site(node_config: Path, home: Path, server: Server | None) -> Iterator[Answer]:
    """Try all that a site needs; its node config first, without which the rest cannot be tried.

    Parameters
    ----------
    node_config : Path
        The TOML file that `flower-supernode --node-config` gets.
    home : Path
        Where this site keeps features and weights.
    server : Server | None
        The server to try; None tries this machine alone.
    """
    node: dict[str, Any] = {}
    tables: list[Table] = []  # the site's own images, if they could be opened
    yield _try("node config", lambda: node.update(read_node(node_config)) or client_name(node))
    if node:
        yield _try("its rules", lambda: _rules(node))
        yield _try("data", lambda: _data(node, home, tables))
    yield _try("weights", lambda: _weights(home))
    yield _try("disk", lambda: _disk(sum(map(len, tables)), home))
    yield _try("versions", _versions)
    if server:
        yield from _tries_at(server)


def _try(what: str, check: Callable[[], str]) -> Answer:
    try:
        return Answer(what, True, check())
    except (InputError, OSError) as error:
        return Answer(what, False, str(error))


def read_node(path: Path) -> dict[str, Any]:
    """The node config in a file; InputError if it is no TOML, or has a key that nothing reads."""
    try:
        node = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f'{path}: is no TOML ({error}); texts stand in quotes: site = "hospital-a"'
        ) from None
    if unknown := node.keys() - set(KEYS):
        raise InputError(
            f"{path}: nothing reads {', '.join(sorted(unknown))}; the keys are {', '.join(KEYS)}"
        )
    client_name(node)
    return node


def _rules(node: Mapping[str, Any]) -> str:
    """What the site asks for before it takes part."""
    rules = []
    if least := own_least(node):
        rules.append(f"in secure sums over {least} clients at least, and in nothing else")
    if limit := site.Limit.of(node):
        rules.append(
            f"under a privacy budget alone, with {limit.epsilon:g} at most for each {limit.unit}"
        )
    if {ROSTER, SIGNING_KEY} & node.keys() and identity_of(node):
        rules.append("it knows the other sites by its roster")
    return "; ".join(rules) or "none: it answers any run of this app"


def _data(node: Mapping[str, Any], home: Path, tables: list[Table]) -> str:
    """What there is to learn from, of which some images are decoded; `tables` gets it."""
    if "data-path" not in node:
        if not {"partition-id", "num-partitions"} <= node.keys():
            raise InputError("there is neither a data-path nor partition-id and num-partitions")
        part = f"partition {node['partition-id']} of {node['num-partitions']}"
        return f"{part} of whatever `dataset` a run names, which must be on this machine"
    path = str(node["data-path"])
    if not Path(path).expanduser().is_dir():
        raise InputError(f"data-path = {path!r}: there is no such folder on this machine")
    table = sources.load(path, home)
    tables.append(table)
    sizes = {name: len(table.rows(name)) for name in SPLITS}
    if not sizes["train"]:
        raise InputError(f"data-path = {path!r}: holds no train images, and a site trains on them")
    tried = np.unique(np.linspace(0, len(table) - 1, TRIED_IMAGES).astype(int))
    broken = [str(table.image[row]) for row in tried if not _readable(table.read(int(row)))]
    if len(broken) == len(tried):
        raise InputError(f"none of its images can be read, such as {broken[0]}")
    said = ", ".join(f"{number} {name} images" for name, number in sizes.items() if number)
    who = (
        f"of {len(np.unique(table.celeb_id))} people"
        if table.identified
        else ("without identities (a column celeb_id): each counts as another person")
    )
    words = f"{said} {who}; {len(tried) - len(broken)} of {len(tried)} that were tried can be read"
    return f"{words}; {', '.join(broken[:3])} cannot, and will be left out" if broken else words


def _readable(data: bytes) -> bool:
    try:
        decode(data, 32)
    except BadImageError:
        return False
    return True


def _weights(home: Path) -> str:
    kept = list((home / "weights").glob("*.safetensors"))
    return f"{len(kept)} backbones in {home}; one that a run needs besides comes from the server"


def _disk(number: int, home: Path) -> str:
    """Whether features of so many images will fit, and whether the home can be written."""
    needed = number * ROW_BYTES
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        raise InputError(f"{there} cannot be written to, and the site's home is {home}")
    if free < needed:
        raise InputError(
            f"{free / 1e9:.1f} GB are free for {home}, and features of {number} images take up to "
            f"{needed / 1e9:.1f} GB; make room, or set CELEBA_FL_HOME to another disk"
        )
    return f"{free / 1e9:.1f} GB free for {home}, of which {needed / 1e9:.1f} GB may be needed"


def _versions() -> str:
    """Whether the packages are those that this one asks for."""
    from packaging.requirements import Requirement

    wrong = []
    for line in metadata.requires("celeba-fl") or []:
        needed = Requirement(line)
        if needed.marker and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            there = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            there = "missing"
        if there == "missing" or not needed.specifier.contains(there, prereleases=True):
            wrong.append(f"{needed.name} is {there}, and should be {needed.specifier or 'there'}")
    if wrong:
        raise InputError(f"{'; '.join(wrong)}: install the app again, pip install -e .")
    ours = ", ".join(f"{name} {metadata.version(name)}" for name in ("celeba-fl", "flwr", "torch"))
    return f"{ours}; the server names it if its own code is other"


def _tries_at(server: Server) -> Iterator[Answer]:
    """From the name to the key: the first that fails is the last that is tried."""
    steps = {
        "name": _resolve,
        "port": _connect,
        "certificate": _certificate,
        "server": _answer,
        "key": _activate,
    }
    for what, step in steps.items():
        answer = _try(what, lambda step=step: step(server))  # type: ignore[misc]
        yield answer
        if not answer.right:
            return


def _resolve(server: Server) -> str:
    try:
        found = socket.getaddrinfo(server.name, server.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise InputError(
            f"{server.name} does not resolve ({error.strerror}); correct --superlink, or ask who "
            f"keeps the names of this network"
        ) from None
    return f"{server.name} is {found[0][4][0]}"


def _connect(server: Server) -> str:
    try:
        socket.create_connection((server.name, server.port), SECONDS).close()
    except OSError as error:
        raise InputError(
            f"{server.address} does not take a connection ({error.strerror or error}): the server "
            f"is down, its front listens on another port, or a firewall is between"
        ) from None
    return f"{server.port} answers"


def _certificate(server: Server) -> str:
    """For which names it is, and until when."""
    try:
        with (
            socket.create_connection((server.name, server.port), SECONDS) as plain,
            server.context().wrap_socket(plain, server_hostname=server.name) as secured,
        ):
            certificate: Any = secured.getpeercert()
    except ssl.SSLCertVerificationError as error:
        raise InputError(f"{error.verify_message}: {_cure(error, server)}") from None
    except ssl.SSLError as error:
        raise InputError(f"{server.address} does not speak TLS ({error.reason})") from None
    names = ", ".join(str(name) for _, name in certificate.get("subjectAltName", ()))
    days = (ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / 86400
    soon = ": ask for a new one" if days < SOON_DAYS else ""
    return f"valid for {names}, for {days:.0f} more days{soon}"


def _cure(error: ssl.SSLCertVerificationError, server: Server) -> str:
    """What to do, by the number that OpenSSL has for a fault."""
    if error.verify_code in (62, 64):  # another name, another address
        return f"take a name that the certificate is for, or have one made for {server.name}"
    if error.verify_code == 10:
        return "it has expired; the server needs a new one"
    if error.verify_code == 9:
        return "it holds from later on; is the clock of this machine right?"
    which = f"{server.root} is" if server.root else "--root-certificates is missing, or it is"
    return f"{which} not the ca.crt that signed it, or a proxy opens TLS in between"


def _answer(server: Server) -> str:
    """Whether it is a SuperLink, and what time it is there."""
    url = f"https://{server.address}{FLEET}pull-messages"
    try:
        answer = httpx.post(url, verify=server.context(), timeout=SECONDS)
    except httpx.HTTPError as error:
        raise InputError(
            f"{server.address} does not answer: {error or type(error).__name__}"
        ) from None
    if answer.status_code != httpx.codes.UNSUPPORTED_MEDIA_TYPE:
        raise InputError(
            f"{url} answers {answer.status_code} {answer.reason_phrase}, as no SuperLink does: is "
            f"it another web server, or is its SuperLink down?"
        )
    if "date" not in answer.headers:
        return "a SuperLink answers; it does not say what time it is"
    off = time.time() - parsedate_to_datetime(answer.headers["date"]).timestamp()
    if abs(off) > CLOCK_SECONDS:
        raise InputError(
            f"this machine's clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the "
            f"server's; set it: timedatectl set-ntp true"
        )
    return "a SuperLink answers, and the clocks agree"


def _activate(server: Server) -> str:
    if not server.key:
        raise InputError(
            "--auth-supernode-private-key is missing; without a registered key the front lets "
            "no site in"
        )
    try:
        said = flower.try_node_key(server.address, server.root, server.key.read_bytes())
    except ValueError:
        raise InputError(
            f"{server.key}: is no private key of P-384 (is it the .pub?); take the node-N.key of "
            f"this site"
        ) from None
    if said:
        raise InputError(
            f"the server refuses the key of {server.key} ({said}): either it is not registered "
            f"(on the server: flwr supernode register PUBLIC-KEY CONNECTION), or a SuperNode with "
            f"it is online, or was so a minute ago (flwr supernode list CONNECTION)"
        )
    return "registered; the site was online for a moment"
