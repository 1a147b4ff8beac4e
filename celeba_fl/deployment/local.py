"""A whole deployment on one machine: SuperLink, front and SuperNodes, with TLS and keys.

The same processes as on real machines (see this folder's README), to try a federation out before it
goes to its sites, and for tests.
"""

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import tomli_w
from filelock import FileLock, Timeout

from celeba_fl.common import flower
from celeba_fl.common.errors import InputError
from celeba_fl.common.files import hash_key, private
from celeba_fl.deployment.client_keys import VARIABLE
from celeba_fl.deployment.credentials import CLIENT_KEYS, ROSTER, write_credentials
from celeba_fl.launch.flower import flower_environment, flower_json
from celeba_fl.privacy import roster
from celeba_fl.task import client_name

HOST = "127.0.0.1"
START_SECONDS = 120.0
NODE_SECONDS = 30.0  # more for each node: tabs are registered one after the other
STOP_SECONDS = 10.0
POLL_SECONDS = 0.5
VALID_DAYS = 365
# Flower's children ask for work once a second; on one machine more often costs nothing.
POLLING = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2"}


class LocalDeployment:
    """Processes on this machine; a context manager that leaves none behind.

    Parameters
    ----------
    folder : Path
        Emptied first. It holds credentials, the SuperLink's database, and the logs and Flower's
        home of all processes; none but its owner can enter it, or read a file there.
    name : str
        Name by which `flwr run` finds it: a connection of this name is written into the
        configuration of Flower's commands, where others stay.
    nodes : Sequence[Mapping[str, Any]]
        The node config of each SuperNode.
    rosters : bool (default: True)
        Whether sites know each other by a roster; not where others join that are not in it.

    Raises
    ------
    InputError
        If `name` is not a name. On entering: if another connection has it, the deployment is
        running already, or it does not come up.
    """

    def __init__(
        self, folder: Path, name: str, nodes: Sequence[Mapping[str, Any]], rosters: bool = True
    ) -> None:
        if not re.fullmatch(r"[\w-]+", name):
            raise InputError(f"--name {name!r}: letters, digits, _ and - only")
        self.folder, self.name, self.nodes, self.rosters = folder, name, nodes, rosters
        self._lock = FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0, mode=0o600)
        self._port, self._front_port, *self._node_ports = free_ports(2 + len(nodes))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @staticmethod
    def environment() -> dict[str, str]:
        """Environment of Flower's commands, which poll more often here."""
        return {**POLLING, **flower_environment()}

    @property
    def address(self) -> str:
        """Address of the SuperLink, where runs are started."""
        return f"{HOST}:{self._port}"

    @property
    def front(self) -> str:
        """Address by which sites reach it."""
        return f"{HOST}:{self._front_port}"

    @property
    def credentials(self) -> Path:
        """Folder of the certificates and keys."""
        return self.folder / "credentials"

    def __enter__(self) -> "LocalDeployment":
        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise InputError(f"a deployment is running in {self.folder} already") from None
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        self._kill_all()
        self._lock.release()

    def _start(self) -> None:
        self._kill_all()  # of one that was killed itself
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700)
        names = [client_name(node) for node in self.nodes]
        write_credentials(self.credentials, names, [HOST], VALID_DAYS)
        (self.folder / "logs").mkdir(mode=0o700)
        self.start_superlink()
        self.start_front()
        self._connect()
        for node in range(len(self.nodes)):
            key = str(self.credentials / f"node-{node}.pub")
            self._flwr("supernode", "register", key, self.name)
            self.start_node(node)
        self.wait_for(len(self.nodes))

    def _connect(self) -> None:
        """Make this deployment a connection of Flower's commands."""
        ca = str(self.credentials / "ca.crt")
        other = flower.connections().get(self.name)
        if other and other.get("root-certificates") != ca:
            raise InputError(
                f"Flower's commands have a connection {self.name!r} already, to "
                f"{other.get('address')}; take another --name"
            )
        flower.write_connection(self.name, self.address, root_certificates=ca)

    def start_superlink(self) -> None:
        """Start the SuperLink, also again, and wait until it can be reached."""
        self.spawn(
            "superlink",
            "flower-superlink",
            *("--host", HOST, "--port", str(self._port)),
            *("--ssl-ca-certfile", str(self.credentials / "ca.crt")),
            *("--ssl-certfile", str(self.credentials / "server.crt")),
            *("--ssl-keyfile", str(self.credentials / "server.key")),
            "--enable-supernode-auth",
            *("--database", str(self.folder / "superlink.db")),
            **{VARIABLE: str(self.credentials / CLIENT_KEYS)},
        )
        self._await("the SuperLink cannot be reached", lambda: _listens(self._port))

    def start_front(self) -> None:
        """Start what sites reach the SuperLink by, and wait until it can be reached."""
        self.spawn(
            "front",
            *(sys.executable, "-m", "celeba_fl.deployment.front"),
            *("--host", HOST, "--port", str(self._front_port)),
            *("--superlink", self.address, "--credentials", str(self.credentials)),
        )
        self._await("the front cannot be reached", lambda: _listens(self._front_port))

    def start_node(self, node: int) -> None:
        """Start a SuperNode, also again."""
        config = self.folder / f"node-{node}.toml"
        identity = {
            roster.ROSTER: str(self.credentials / ROSTER),
            roster.SIGNING_KEY: str(self.credentials / f"node-{node}-signing.key"),
        }
        with open(config, "wb", opener=private) as file:
            tomli_w.dump({**(identity if self.rosters else {}), **self.nodes[node]}, file)
        self.spawn(
            f"node-{node}",
            "flower-supernode",
            *("--superlink", self.front),
            *("--root-certificates", str(self.credentials / "ca.crt")),
            *("--auth-supernode-private-key", str(self.credentials / f"node-{node}.key")),
            *("--host", HOST, "--port", str(self._node_ports[node])),
            *("--node-config", str(config)),
        )

    def admit(self, client: str, key: str) -> None:
        """Register the key of one more node, and list it as that of this client.

        `key` is a public key as OpenSSH writes it, without a comment.
        """
        alone = self.credentials / f"{hash_key(key)}.pub"
        for path in (alone, self.credentials / CLIENT_KEYS):
            with open(path, "a", opener=private) as file:
                file.write(f"{key} {client}\n")
        self._flwr("supernode", "register", str(alone), self.name)

    def wait_for(self, nodes: int) -> None:
        """Wait until so many nodes, or more, are online."""
        more = NODE_SECONDS * nodes
        self._await("the nodes are not online", lambda: self.online() >= nodes, more)

    def kill(self, name: str) -> None:
        """End ``superlink``, ``front`` or ``node-0`` as a power cut would."""
        self._processes[name].kill()
        self._processes[name].wait()

    def start_again(self, name: str) -> None:
        """Start a process as it was started before."""
        command = self._processes[name].args
        assert isinstance(command, tuple)
        self.spawn(name, *command)

    def online(self) -> int:
        """Number of SuperNodes that the SuperLink can reach."""
        listed = self._flwr("supernode", "list", self.name)["nodes"]
        return sum(node["status"] == "online" for node in listed)

    def ended(self) -> dict[str, str]:
        """Processes that have ended too early, and the last lines of their logs."""
        ended = {}
        for name, process in self._processes.items():
            if process.poll() is not None:
                log = self._log(name)
                last = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
                status = f"{name} has ended with status {process.returncode}"
                ended[name] = f"{status}; the last lines of {log}:\n{last}"
        return ended

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def spawn(self, name: str, *command: str, **variables: str) -> None:
        """Start a process of the deployment, which ends with it; its words go to a log."""
        with open(self._log(name), "ab", opener=private) as log:
            self._processes[name] = subprocess.Popen(
                command,
                env={**self.environment(), **variables, "FLWR_HOME": str(self.folder / "flwr")},
                umask=0o077,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we end them in order
            )

    def _flwr(self, *command: str) -> dict[str, Any]:
        return flower_json(["flwr", *command, "--format", "json"], self.environment())

    def _await(self, trouble: str, done: Callable[[], bool], more: float = 0.0) -> None:
        deadline = time.monotonic() + (seconds := START_SECONDS + more)
        while not done():
            if ended := self.ended():
                raise InputError("\n".join(ended.values()))
            if time.monotonic() > deadline:
                raise InputError(f"{trouble} after {seconds:.0f} s: see {self.folder}/logs")
            time.sleep(POLL_SECONDS)

    def _kill_all(self) -> None:
        """Kill the rest: Flower's children do not always end with their parents."""
        while left := processes_with("FLWR_HOME", str(self.folder / "flwr")):
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.1)
        for child in self._processes.values():
            child.wait()


def node_configs(nodes: int | None, data: Sequence[Path], others: int = 0) -> list[dict[str, Any]]:
    """Node configs: first the sites with images of their own, then partitions of `dataset`.

    Without a number of nodes, there are the sites alone or, without any, 3 partitions. A site has
    the name of its folder in `data`. The last partitions are those of so many `others`, which have
    no config.

    Raises
    ------
    InputError
        If there are more folders than nodes, one is not there, or two have one name.
    """
    sites = {folder.resolve().name: folder.resolve() for folder in data}
    total = len(data) or (0 if others else 3) if nodes is None else nodes
    for folder in data:
        if not folder.is_dir():
            raise InputError(f"--data {folder}: there is no such folder")
    if len(sites) < len(data):
        raise InputError(
            f"--data {', '.join(map(str, data))}: a site is called as its folder is; give the "
            "folders different names"
        )
    if len(data) > total:
        raise InputError(f"--nodes {total} with {len(data)} --data: there is one a node")
    partitions = total - len(data)
    of = partitions + others
    return [
        *({"site": name, "data-path": str(folder)} for name, folder in sites.items()),
        *({"partition-id": i, "num-partitions": of} for i in range(partitions)),
    ]


def processes_with(name: str, value: str) -> list[psutil.Process]:
    """The user's processes in whose environment a variable has this value."""
    ours = psutil.process_iter(["environ"])  # None for another user's
    return [process for process in ours if (process.info["environ"] or {}).get(name) == value]


def free_ports(number: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(number)]
        return [int(one.getsockname()[1]) for one in sockets]


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0
