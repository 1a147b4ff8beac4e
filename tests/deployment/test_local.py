import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from celeba_fl.common import flower
from celeba_fl.common.errors import InputError
from celeba_fl.deployment import local
from celeba_fl.deployment.local import (
    LocalDeployment,
    free_ports,
    node_configs,
    processes_with,
)


@pytest.fixture
def sites(tmp_path):
    folders = [tmp_path / "hospital-a", tmp_path / "hospital-b"]
    for folder in folders:
        folder.mkdir()
    return folders


def partition(number, of):
    return {"partition-id": number, "num-partitions": of}


def own(folder):
    return {"site": folder.name, "data-path": str(folder)}


def test_nodes_are_partitions_unless_they_have_data(sites):
    assert node_configs(None, []) == [partition(i, 3) for i in range(3)]
    assert node_configs(2, []) == [partition(0, 2), partition(1, 2)]
    assert node_configs(None, sites) == [own(folder) for folder in sites]
    assert node_configs(4, sites) == [*map(own, sites), partition(0, 2), partition(1, 2)]


def test_others_have_the_last_partitions(sites):
    assert node_configs(2, [], others=3) == [partition(0, 5), partition(1, 5)]
    assert node_configs(3, sites, others=1) == [*map(own, sites), partition(0, 2)]
    assert node_configs(None, sites, others=1) == [*map(own, sites)]
    assert node_configs(None, [], others=1) == []


def test_a_node_has_an_absolute_path(sites, monkeypatch):
    monkeypatch.chdir(sites[0])
    assert node_configs(None, [sites[0] / ".." / "hospital-b"]) == [own(sites[1])]


def test_what_cannot_be_is_refused(sites, tmp_path):
    with pytest.raises(InputError, match="--nodes 1 with 2 --data"):
        node_configs(1, sites)
    with pytest.raises(InputError, match="no-such: there is no such folder"):
        node_configs(None, [tmp_path / "no-such"])
    (sites[0] / "hospital-b").mkdir()
    with pytest.raises(InputError, match="different names"):
        node_configs(None, [sites[1], sites[0] / "hospital-b"])
    with pytest.raises(InputError, match=r"--name '../x'"):
        LocalDeployment(tmp_path, "../x", [])


@pytest.fixture
def silent(tmp_path, monkeypatch):
    """A SuperLink that prints and ends, or stays, with `flwr` not there."""
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))
    bin = tmp_path / "bin"
    bin.mkdir()
    monkeypatch.setattr(sys, "executable", str(bin / "python"))

    def write(script):
        (bin / "flower-superlink").write_text(f"#!/bin/sh\n{script}\n")
        (bin / "flower-superlink").chmod(0o755)

    return write


def test_a_superlink_that_ends_is_named_with_its_last_words(silent, tmp_path):
    silent("echo no such port; exit 3")
    with pytest.raises(InputError, match=r"superlink has ended with status 3.*\n.*no such port"):
        LocalDeployment(tmp_path / "here", "sites", []).__enter__()


def test_what_was_started_is_ended_when_the_rest_does_not_come_up(silent, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "START_SECONDS", 1.0)
    silent("(trap '' TERM; sleep 99) & trap '' TERM; sleep 99")
    monkeypatch.setattr(local, "STOP_SECONDS", 1.0)
    with pytest.raises(InputError, match="cannot be reached after 1 s"):
        LocalDeployment(tmp_path / "here", "sites", []).__enter__()
    assert processes_with("FLWR_HOME", str(tmp_path / "here" / "flwr")) == []


def test_one_deployment_at_a_time(silent, tmp_path, monkeypatch):
    monkeypatch.setattr(LocalDeployment, "_start", lambda self: None)
    with (
        LocalDeployment(tmp_path / "here", "sites", []),
        pytest.raises(InputError, match="is running in"),
    ):
        LocalDeployment(tmp_path / "here", "sites", []).__enter__()


def test_a_connection_of_the_users_is_not_replaced(silent, tmp_path, monkeypatch):
    config = tmp_path / "flwr" / "config.toml"
    config.parent.mkdir()
    theirs = '[superlink.sites]\naddress = "fl.example.org:8000"\n'
    config.write_text(theirs)
    monkeypatch.setattr(LocalDeployment, "start_superlink", lambda self: None)
    monkeypatch.setattr(LocalDeployment, "start_front", lambda self: None)
    with pytest.raises(InputError, match=r"'sites' already, to fl.example.org:8000"):
        LocalDeployment(tmp_path / "here", "sites", []).__enter__()
    assert config.read_text() == theirs


def test_a_connection_of_ours_is_written_beside_the_users(silent, tmp_path, monkeypatch):
    config = tmp_path / "flwr" / "config.toml"
    config.parent.mkdir()
    config.write_text('[superlink]\ndefault = "theirs"\n[superlink.theirs]\naddress = "a:1"\n')
    monkeypatch.setattr(LocalDeployment, "start_superlink", lambda self: None)
    monkeypatch.setattr(LocalDeployment, "start_front", lambda self: None)
    monkeypatch.setattr(LocalDeployment, "online", lambda self: 0)
    for _ in range(2):  # again, on another port
        with LocalDeployment(tmp_path / "here", "sites", []) as deployment:
            written = flower.connections()
    assert written["default"] == "theirs"
    assert written["theirs"] == {"address": "a:1"}
    assert written["sites"] == {
        "address": deployment.address,
        "root-certificates": str(tmp_path / "here" / "credentials" / "ca.crt"),
    }


LISTENER = """
import signal, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])))
signal.pause()
"""
FLWR = """
print('{"success": true, "nodes": [{"status": "online"}, {"status": "online"}]}')
"""
SUPERNODE = """
import signal
print("no such face", flush=True)
signal.pause()
"""


@pytest.fixture
def deployed(tmp_path, monkeypatch):
    """`celeba-fl deploy local` of Flower's commands that do nothing, once it is up."""
    bin = tmp_path / "bin"
    bin.mkdir()
    scripts = {"flwr": FLWR, "flower-supernode": SUPERNODE}
    scripts |= {"flower-superlink": LISTENER, "python": LISTENER}  # the front
    for name, script in scripts.items():
        (bin / name).write_text(f"#!{sys.executable}\n{script}")
        (bin / name).chmod(0o755)
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))
    monkeypatch.setenv("CELEBA_FL_HOME", str(tmp_path / "home"))
    code = f"import signal, sys; sys.executable = {str(bin / 'python')!r}\n"
    # Where tests run in the background, children ignore it.
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from celeba_fl import cli; cli.main()"
    command = [sys.executable, "-c", code, "deploy", "local", "--name", "mine"]
    for site in ("a", "b"):
        (tmp_path / site).mkdir()
        command += ["--data", str(tmp_path / site)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        said = ""
        while not said.endswith("celeba-fl run celeba-iid mine dataset=none\n"):
            said += process.stdout.readline() or pytest.fail(said)
        assert "2 SuperNodes online" in said
        assert "flwr run . mine --stream" in said
        assert len(running(tmp_path)) == 4
        try:
            yield process
        finally:
            process.terminate()
    assert running(tmp_path) == []


def running(tmp_path):
    home = tmp_path / "home" / "deployments" / "mine" / "flwr"
    return processes_with("FLWR_HOME", str(home))


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_deploy_local_ends_all_that_it_started(deployed, end):
    deployed.send_signal(end)
    assert deployed.stdout.read() == "Ended.\n"
    assert deployed.wait() == 0


@pytest.mark.parametrize(
    ("name", "command"), [("superlink", "flower-superlink"), ("front", "python")]
)
def test_deploy_local_says_who_died_and_ends_with_the_server(deployed, tmp_path, name, command):
    logs = [tmp_path / f"home/deployments/mine/logs/node-{node}.log" for node in (0, 1)]
    while not all("no such face" in log.read_text() for log in logs):
        time.sleep(0.05)
    by_name = {Path(process.cmdline()[1]).name: process for process in running(tmp_path)}
    by_name["flower-supernode"].kill()
    said = [deployed.stdout.readline() for _ in range(2)]
    assert re.fullmatch(r"node-\d has ended with status -9; .*logs/node-\d.log:\n", said[0])
    assert said[1] == "no such face\n"
    by_name[command].kill()
    assert f"{name} has ended with status -9" in deployed.stdout.read()
    assert deployed.wait() == 1


def test_what_a_killed_deployment_has_left_is_ended_first(deployed, tmp_path, monkeypatch):
    deployed.kill()
    deployed.wait()
    orphans = running(tmp_path)
    assert len(orphans) == 4
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    folder = tmp_path / "home" / "deployments" / "mine"
    with LocalDeployment(folder, "mine", node_configs(2, [])):
        assert len(running(tmp_path)) == 4
        assert not {*orphans} & {*running(tmp_path)}


def test_free_ports_are_different():
    assert len(set(free_ports(20))) == 20
