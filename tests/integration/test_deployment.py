"""A real SuperLink with TLS and authentication, and SuperNodes with images of their own."""

import json
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from safetensors.numpy import load_file
from toys import write_sites

from celeba_fl.client_app import app as client_app
from celeba_fl.common import flower
from celeba_fl.config import RunConfig
from celeba_fl.deployment.credentials import CLIENT_KEYS, write_credentials
from celeba_fl.deployment.local import LocalDeployment, free_ports, node_configs, processes_with
from celeba_fl.deployment.site_check import Server, check_site
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as server_app


@pytest.fixture(scope="module")
def deployment(
    toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalDeployment]:
    if not Path("/proc/self/environ").exists():
        pytest.skip("processes are found through /proc, which is not here")
    folder = tmp_path_factory.mktemp("deployed")
    sites = write_sites(folder / "sites", Path(toy["dataset"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLWR_HOME", str(folder / "flwr"))
        with LocalDeployment(folder / "here", "sites", node_configs(None, sites)) as deployed:
            yield deployed
    assert processes_with("FLWR_HOME", str(folder / "here" / "flwr")) == []


@pytest.fixture
def settings(toy: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    return {
        **toy,
        "dataset": "none",
        "scaling": "clients",
        "init": "base-rates",
        "fraction-evaluate": 0.0,  # each message is a new process
        "min-available-clients": 3,
        "min-replies": 1.0,
        "results-dir": str(tmp_path / "runs"),
    }


def start(settings: dict[str, Any], connection: str = "sites") -> "subprocess.Popen[str]":
    """`celeba-fl run` with these run-config keys."""
    experiment = Path(settings["results-dir"]).with_name("experiment.toml")
    experiment.write_text(tomli_w.dumps(settings))
    return subprocess.Popen(
        ["celeba-fl", "run", str(experiment), connection],
        env=LocalDeployment.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_site_is_checked_before_it_joins(
    deployment: LocalDeployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_credentials(tmp_path / "more", ["late"], ["127.0.0.1"], 9)
    late, ours = tmp_path / "more" / "node-0", deployment.credentials
    (tmp_path / "node.toml").write_text(tomli_w.dumps({**deployment.nodes[0], "site": "late"}))

    def key(private: Path) -> tuple[bool, str]:
        server = Server(deployment.front, ours / "ca.crt", private)
        *rest, last = check_site(tmp_path / "node.toml", tmp_path / "home", server)
        assert all(one.right for one in rest)
        return last.right, last.words

    for private in (late.with_suffix(".key"), ours / "node-0.key"):  # unknown; online already
        right, words = key(private)
        assert not right
        assert "either it is not registered" in words
    register = ["flwr", "supernode", "register", late.with_suffix(".pub"), "sites"]
    subprocess.run(register, env=LocalDeployment.environment(), check=True, capture_output=True)
    assert key(late.with_suffix(".key")) == (True, "registered; the site was online for a moment")
    assert deployment.online() == 3


def inline(deployment: LocalDeployment, settings: dict[str, Any], results: Path) -> Path:
    config = RunConfig.load({**settings, "results-dir": str(results)})
    run_inline(config, deployment.nodes, server_app, client_app)
    return read_runs(results)[0].path


def assert_equal_models(one: Path, other: Path) -> None:
    models = [load_file(path / "model.safetensors") for path in (one, other)]
    assert models[0].keys() == models[1].keys()
    for key in models[0]:
        np.testing.assert_allclose(models[0][key], models[1][key], rtol=0, atol=1e-6)


def test_sites_with_images_of_their_own_learn_what_the_simulation_does(
    deployment: LocalDeployment, settings: dict[str, Any], tmp_path: Path
) -> None:
    settings |= {"num-server-rounds": 1}
    process = start(settings)
    output, _ = process.communicate()

    assert process.returncode == 0, output
    (run,) = read_runs(tmp_path / "runs")
    assert (run.status, run.dataset["name"]) == ("completed", "none")
    held = {
        row["client"]: int(row["num_examples"]) for row in read_csv(run.path / "partitions.csv")
    }
    assert list(held) == ["hospital-a", "hospital-b", "hospital-c"]
    again = inline(deployment, settings, tmp_path / "inline")
    assert_equal_models(run.path, again)
    tables = [read_csv(path / "attributes.csv") for path in (run.path, again)]
    assert tables[0] == tables[1]
    assert {row["split"] for row in tables[0]} == {"train", "valid"}


@pytest.mark.slow
def test_a_node_killed_in_a_round_and_back_later(
    deployment: LocalDeployment, settings: dict[str, Any], tmp_path: Path
) -> None:
    process = start(settings)
    wait_for(tmp_path / "runs", phase="train")
    deployment.kill("node-1")
    while process.poll() is None:
        time.sleep(5)
        if next(iter(deployment.ended()), "") == "node-1":
            deployment.start_node(1)  # refused until the SuperLink has noticed; systemd does this
    output = process.communicate()[0]

    assert process.returncode == 0, output
    assert "round 1 does not count: 2 of 3" in output
    (run,) = read_runs(tmp_path / "runs")
    assert [row["clients"] for row in read_csv(run.path / "rounds.csv")] == ["0", "3", "3"]
    assert_equal_models(run.path, inline(deployment, settings, tmp_path / "inline"))


def wait_for(runs: Path, phase: str) -> None:
    """Return once a run there waits for answers."""
    for _ in range(1200):
        for path in runs.glob("*/progress.json"):
            said = json.loads(path.read_text())
            if said["phase"] == phase and said["replied"] < said["asked"]:
                return
        time.sleep(0.1)
    raise AssertionError(f"no run in {runs} came to {phase}")


def supernode(deployment: LocalDeployment, folder: Path, *options: str) -> tuple[int, str]:
    """A SuperNode of a stranger's: its exit status and output.

    Into a file, as a child of it lives on, with all that is open, until we have seen its end.
    """
    (port,) = free_ports(1)
    command = ["flower-supernode", "--superlink", deployment.front, "--port", str(port)]
    # By its home the deployment finds the child.
    environment = {**LocalDeployment.environment(), "FLWR_HOME": str(deployment.folder / "flwr")}
    with (folder / "log").open("w+") as log:
        ended = subprocess.run(
            [*command, "--max-retries", "1", *options],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=300,
            check=False,
        )
        log.seek(0)
        return ended.returncode, log.read()


def test_a_node_whose_key_is_not_registered_is_refused(
    deployment: LocalDeployment, tmp_path: Path
) -> None:
    write_credentials(tmp_path / "stranger", ["hospital-a"], ["localhost"], 1)
    status, output = supernode(
        deployment,
        tmp_path,
        *("--root-certificates", str(deployment.credentials / "ca.crt")),
        *("--auth-supernode-private-key", str(tmp_path / "stranger" / "node-0.key")),
    )
    assert status != 0
    assert "Failed to activate SuperNode" in output
    assert deployment.online() == 3


def test_a_node_without_tls_is_refused(deployment: LocalDeployment, tmp_path: Path) -> None:
    status, output = supernode(deployment, tmp_path, "--insecure")
    assert status != 0
    assert "Failed to initialize the connection" in output
    assert deployment.online() == 3


def test_a_user_without_the_ca_is_refused(
    deployment: LocalDeployment, settings: dict[str, Any], tmp_path: Path
) -> None:
    # By the front it would get nowhere with the certificate either.
    flower.write_connection("no-ca", address=deployment.address)
    process = start(settings, "no-ca")
    output, _ = process.communicate()
    assert process.returncode == 2
    assert "Connection to the SuperLink is unavailable" in output
    assert not (tmp_path / "runs").exists()


def test_none_but_its_owner_reads_what_a_deployment_writes(deployment: LocalDeployment) -> None:
    modes = {
        (path.is_dir(), stat.S_IMODE(path.stat().st_mode))
        for path in [deployment.folder, *deployment.folder.rglob("*")]
        if not path.is_symlink()
    }
    assert modes == {(True, 0o700), (False, 0o600)}
    assert (deployment.folder / "superlink.db").exists()


@pytest.mark.slow
def test_a_fault_of_a_site_is_whole_in_its_own_log_and_without_content_at_the_server(
    deployment: LocalDeployment, settings: dict[str, Any], tmp_path: Path
) -> None:
    logs = deployment.folder / "logs"
    metadata = deployment.folder.parent / "sites" / "hospital-b" / "metadata.csv"
    text = metadata.read_text()
    metadata.write_text(text.replace(",0\n", ",meier\n", 1))
    before = (logs / "node-1.log").stat().st_size
    try:
        process = start({**settings, "min-available-clients": 2, "num-server-rounds": 1})
        output, _ = process.communicate()
    finally:
        metadata.write_text(text)

    assert process.returncode == 0, output
    words = "client hospital-b: metadata.csv, line 2: ... of ... is ..., and should be one of ..."
    assert words in output
    at_the_server = output + (logs / "superlink.log").read_text(errors="replace")
    at_the_site = (logs / "node-1.log").read_text(errors="replace")[before:]
    for content in ("meier", "faces/", str(metadata.parent)):
        assert content not in at_the_server
        assert content in at_the_site


@pytest.mark.slow
def test_a_name_of_another_key_is_refused(
    deployment: LocalDeployment, settings: dict[str, Any]
) -> None:
    listed = deployment.credentials / CLIENT_KEYS
    before = listed.read_text()
    first, rest = before.split("\n", 1)
    listed.write_text(f"{first.replace('hospital-a', 'hospital-z')}\n{rest}")
    try:
        output, _ = start(settings).communicate()
    finally:
        listed.write_text(before)
    assert "client hospital-a: it has the key of hospital-z; set site = 'hospital-z'" in output
    assert "only 2 clients can take part" in output


@pytest.mark.slow
def test_the_wait_for_clients_is_bounded(
    deployment: LocalDeployment, settings: dict[str, Any], tmp_path: Path
) -> None:
    process = start({**settings, "min-available-clients": 4, "wait-seconds": 3})
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1, output
    (run,) = read_runs(tmp_path / "runs")
    assert run.status == "failed"
    assert run.reason.startswith("min-available-clients: needs 4 nodes, and there are 3; start")
    assert "have been waited for them (wait-seconds)" in run.reason
