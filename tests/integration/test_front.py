"""A stranger, who verifies nothing and has no key, at a deployment whose sites train meanwhile."""

import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
import tomli_w
from private import (
    PROTOBUF_REQUEST_TYPES,
    FleetHttpClient,
    ListNodesRequest,
    ListNodesResponse,
    Node,
    NodeAuthHttpInterceptor,
    generate_key_pairs,
    public_key_to_bytes,
)
from toys import write_sites

from celeba_fl import deployment
from celeba_fl.deployment.front import CALLS
from celeba_fl.deployment.local import LocalDeployment, node_configs
from celeba_fl.runs.reading import read_runs

pytestmark = pytest.mark.slow
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "FOO")
ODD = (
    *("/", "/docs", "/openapi.json", "/health", "/v1", "/v1/fleet", "/v1/fleet/"),
    *("/v1/fleet/../control/list-nodes", "/v1/fleet/%2e%2e/control/list-nodes"),
    *("/v1/fleet/pull-messages/../../control/list-nodes", "//v1/control/list-nodes"),
    *("/v1/fleet/pull-messages%00", "/v1/fleet/pull-messages%0a", "/v1/fleet/pull-messages;/.."),
    *("/v1/fleet/pull-messages%2f..%2f..%2fcontrol%2flist-nodes", "/v1/fleet\\..\\control"),
    *("/flwr.proto.Control/ListNodes", "/flwr.proto.Fleet/PullMessages", "/V1/CONTROL/LIST-NODES"),
)


class BehindNginx(LocalDeployment):
    """A deployment with the production front."""

    def start_front(self) -> None:
        """Start nginx with our configuration, of which only places and ports are changed."""
        assert NGINX is not None
        front = (Path(deployment.__file__).parent / "celeba-fl-nginx.conf").read_text()
        changes = {
            "/etc/celeba-fl": str(self.credentials),
            "[::]:443": f"[::1]:{self.front.rpartition(':')[2]}",
            "listen 443": f"listen {self.front.rpartition(':')[2]}",
            "127.0.0.1:8000": self.address,
        }
        for was, now in changes.items():
            assert was in front
            front = front.replace(was, now)
        folder = self.folder / "nginx"
        folder.mkdir()
        user = "user root;" if os.geteuid() == 0 else ""
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
        (folder / "nginx.conf").write_text(
            f"daemon off;\n{user}\npid {folder}/pid;\nevents {{}}\nhttp {{\n"
            f"access_log {folder}/access.log;\n{places}{front}\n}}"
        )
        self.spawn("front", NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"))
        self._await("nginx cannot be reached", lambda: reached("127.0.0.1", self.front))


@pytest.fixture(scope="module", params=[LocalDeployment, BehindNginx], ids=["ours", "nginx"])
def deployed(
    request: pytest.FixtureRequest, toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalDeployment]:
    if request.param is BehindNginx and NGINX is None:
        pytest.skip("nginx is not installed (on Debian: apt install nginx)")
    folder = tmp_path_factory.mktemp("fronted")
    sites = write_sites(folder / "sites", Path(toy["dataset"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLWR_HOME", str(folder / "flwr"))
        with request.param(folder / "here", "fronted", node_configs(None, sites)) as deployed:
            yield deployed


@pytest.fixture
def run(
    deployed: LocalDeployment, toy: dict[str, Any], tmp_path: Path
) -> "Callable[[], subprocess.Popen[str]]":
    """Starts a run of one round."""

    def start() -> "subprocess.Popen[str]":
        changes = {"num-server-rounds": 1, "fraction-evaluate": 0.0, "min-available-clients": 3}
        changes |= {"dataset": "none", "init": "base-rates", "scaling": "clients"}
        experiment = tmp_path / "experiment.toml"
        where = {"results-dir": str(tmp_path / "runs"), "min-replies": 1.0}
        experiment.write_text(tomli_w.dumps({**toy, **changes, **where}))
        return subprocess.Popen(
            ["celeba-fl", "run", str(experiment), "fronted"],
            env=deployed.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def reached(host: str, address: str) -> bool:
    """Whether somebody listens at the port of an address, there or at another host."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as stranger:
        stranger.settimeout(5)
        return stranger.connect_ex((host, int(address.rpartition(":")[2]))) == 0


def ask(address: str, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """The status and body of an answer to somebody who checks nothing, and sends what he likes."""
    host, _, port = address.rpartition(":")
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection(host, int(port), timeout=30, context=context)
    said = {"content-type": "application/protobuf", "accept": "application/protobuf"}
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for key, value in {**said, "content-length": str(len(body))}.items():
            connection.putheader(key, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_stranger_is_refused_in_every_call_while_sites_train(
    deployed: LocalDeployment, run: "Callable[[], subprocess.Popen[str]]", tmp_path: Path
) -> None:
    training = run()
    apis = {path: kind().SerializeToString() for (_, path), kind in PROTOBUF_REQUEST_TYPES.items()}
    assert {path.split("/")[2] for path in apis} == {"fleet", "control", "runtime"}
    for path, method in product([*apis, *ODD], METHODS):
        status, body = ask(deployed.front, method, path, apis.get(path, b""))
        if method == "POST" and path.removeprefix("/v1/fleet/") in CALLS:
            assert (status, body) == (401, b'{"detail":"Invalid SuperNode authentication"}')
        else:
            # nginx answers some methods by itself.
            assert status in (400, 404, 405), (method, path)
            assert b"node" not in body

    output, _ = training.communicate()
    assert training.returncode == 0, output
    assert [one.status for one in read_runs(tmp_path / "runs")] == ["completed"]
    assert deployed.online() == 3


def test_a_body_that_is_too_large_is_refused(deployed: LocalDeployment) -> None:
    for name, limit in CALLS.items():
        status, body = ask(deployed.front, "POST", f"/v1/fleet/{name}", bytes(limit))
        assert status in (400, 401), name  # it came as far as the SuperLink
        try:
            status, body = ask(deployed.front, "POST", f"/v1/fleet/{name}", bytes(limit + 1))
        except ConnectionError:  # it is not read to its end
            continue
        assert status == 413, name
        assert b"detail" not in body


def test_a_key_that_a_stranger_made_up_opens_nothing(deployed: LocalDeployment) -> None:
    private, public = generate_key_pairs()
    own = public_key_to_bytes(public)
    own_word = [NodeAuthHttpInterceptor(private, public)]
    url, context = f"https://{deployed.front}", ssl._create_unverified_context()
    with FleetHttpClient(url, interceptors=own_word, verify=context) as stranger:
        for (_, path), kind in PROTOBUF_REQUEST_TYPES.items():
            if path.startswith("/v1/fleet/"):
                fields = {"public_key": own, "heartbeat_interval": 30, "node": Node(node_id=1)}
                known = kind.DESCRIPTOR.fields_by_name
                request = kind(**{key: value for key, value in fields.items() if key in known})
                call = path.rpartition("/")[2].title().replace("-", "")
                with pytest.raises(httpx.HTTPStatusError) as refused:
                    getattr(stranger, call)(request)
                assert refused.value.response.status_code in (401, 404, 412)
    assert deployed.online() == 3


def test_no_grpc(deployed: LocalDeployment) -> None:
    ca = (deployed.credentials / "ca.crt").read_bytes()
    for service in ("Control/ListNodes", "Fleet/PullMessages", "Exec/ListRuns"):
        with grpc.secure_channel(deployed.front, grpc.ssl_channel_credentials(ca)) as channel:
            list_nodes = channel.unary_unary(
                f"/flwr.proto.{service}",
                request_serializer=ListNodesRequest.SerializeToString,
                response_deserializer=ListNodesResponse.FromString,
            )
            with pytest.raises(grpc.RpcError):
                list_nodes(ListNodesRequest(), timeout=10)


def test_the_superlink_is_not_there_for_other_machines(deployed: LocalDeployment) -> None:
    families = {socket.AF_INET, socket.AF_INET6}
    of_machine = [one for ones in psutil.net_if_addrs().values() for one in ones]
    hosts = [one.address for one in of_machine if one.family in families]
    others = [host for host in hosts if not re.match(r"127\.|::1$|fe80:", host)]
    if not others:
        pytest.skip("this machine has no address but the loopback one")
    assert reached("127.0.0.1", deployed.address)
    assert [host for host in others if reached(host, deployed.address)] == []
