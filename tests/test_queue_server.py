"""The embedded queue server: one for all, right again after kill -9 of any of its parts, gone after its last client."""

import multiprocessing
import os
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

import queue_keeper
import queue_server
from servers import is_alive, wait_until

GONE = queue_keeper.IDLE_EXIT + 10  # seconds


def connect(home: Path) -> redis.Redis:
    pool = redis.ConnectionPool(
        connection_class=queue_server.EmbeddedConnection, home=home, retry=Retry(NoBackoff(), 0)
    )
    return redis.Redis(connection_pool=pool)


def server_of(client: redis.Redis) -> psutil.Process:
    return psutil.Process(client.info("server")["process_id"])


def kill(process: psutil.Process) -> None:
    process.kill()
    gone(process)


def gone(process: psutil.Process) -> None:
    """Wait until the process is dead; it is nobody's of ours, or a zombie of a parent that will not wait."""
    wait_until(lambda: not is_alive(process), GONE, f"process {process.pid} is gone")


def refused(path: Path) -> bool:
    """Whether nobody listens; the threads of a killed server hold its sockets for a moment longer than it lives."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) != 0


def ended(home: Path, client: redis.Redis, server: psutil.Process) -> None:
    """Wait until the server is dead and listens no more, and leave the connection to it."""
    gone(server)
    wait_until(lambda: refused(queue_server.socket_path(home)), GONE, "nobody listens")
    client.connection_pool.disconnect()


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder, of a short path; whatever queue server it had is gone afterwards."""
    home = tmp_path_factory.mktemp("q")
    yield home
    for process in psutil.process_iter(["cmdline"]):
        if any(f"{home}/" in f"{argument}/" for argument in process.info["cmdline"] or []):
            process.kill()


@pytest.fixture
def client(home: Path) -> Iterator[redis.Redis]:
    client = connect(home)
    yield client
    client.connection_pool.disconnect()


def _server_pid(home: Path, start: multiprocessing.Barrier, pids: multiprocessing.Queue) -> None:
    start.wait()
    pids.put(server_of(connect(home)).pid)


def test_eight_processes_that_start_at_once_share_one_server(home: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, pids = context.Barrier(8), context.Queue()
    children = [context.Process(target=_server_pid, args=(home, start, pids)) for _ in range(8)]
    for child in children:
        child.start()
    found = {pids.get(timeout=30) for _ in children}
    for child in children:
        child.join()
    assert len(found) == 1


def test_two_homes_have_two_servers(home: Path) -> None:
    first, second = connect(home / "a"), connect(home / "b")
    first.set("key", "a")
    assert second.get("key") is None


def test_server_has_no_port_and_a_socket_of_its_user_alone(home: Path, client: redis.Redis) -> None:
    server = server_of(client)
    assert server.net_connections("inet") == []
    for path in (queue_server.socket_path(home), home / "queue"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_server_has_nothing_of_our_environment(client: redis.Redis) -> None:
    server = server_of(client)
    assert "PATH" not in server.environ()
    with suppress(psutil.AccessDenied):  # closed to its own user, too
        assert "PATH" not in server.parent().environ()


@pytest.mark.parametrize("victim", ["server", "keeper", "both"])
def test_killed_server_is_started_again_with_its_data(home: Path, client: redis.Redis, victim: str) -> None:
    client.set("key", "value")
    wait_until(lambda: client.info("persistence")["aof_last_write_status"] == "ok", 60, "written")
    client.execute_command("WAITAOF", 1, 0, 60_000)
    server = server_of(client)
    keeper = server.parent()
    for process in {"server": [server], "keeper": [keeper], "both": [keeper, server]}[victim]:
        kill(process)
    ended(home, client, server)
    assert client.get("key") == b"value"


def test_unreadable_data_is_set_aside(home: Path, client: redis.Redis) -> None:
    client.set("key", "value")
    server = server_of(client)
    server.parent().terminate()
    ended(home, client, server)
    [log] = (home / "queue" / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"not a log of commands" + log.read_bytes())
    assert client.get("key") is None
    assert (home / "queue" / "appendonlydir.unreadable").is_dir()


def test_stale_files_are_no_obstacle(home: Path, client: redis.Redis) -> None:
    folder = home / "queue"
    folder.mkdir(mode=0o700)
    for name in ("start.lock", "keeper.lock", "server.sock"):
        (folder / name).touch()
    assert client.ping()


def test_server_and_keeper_end_after_the_last_client(client: redis.Redis) -> None:
    server = server_of(client)
    keeper = server.parent()
    client.connection_pool.disconnect()
    gone(server)
    gone(keeper)


def test_server_outlives_the_process_group_that_started_it(home: Path, client: redis.Redis) -> None:
    context = multiprocessing.get_context("fork")
    starter = context.Process(target=lambda: (os.setsid(), connect(home).ping(), os.killpg(0, signal.SIGKILL)))
    starter.start()
    starter.join()
    assert starter.exitcode == -signal.SIGKILL
    assert client.ping()


def test_long_path_listens_in_the_temporary_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(home))
    deep = home / ("d" * 100)
    path = queue_server.socket_path(deep)
    assert path.parent.parent == home
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert connect(deep).ping()


@pytest.mark.parametrize("name", ["my home", "a=b"])
def test_a_path_that_the_server_cannot_tell_is_no_obstacle(home: Path, name: str) -> None:
    odd = home / name
    odd.mkdir()
    client = connect(odd)
    try:
        assert client.client_info()["addr"]  # as RQ asks
    finally:
        client.connection_pool.disconnect()
        queue_server.stop(odd)


@pytest.mark.parametrize("trap", ["open to others", "link", "file"])
def test_long_path_refuses_a_place_that_is_not_ours_alone(
    home: Path, trap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(home))
    deep = home / ("d" * 100)
    folder = queue_server.socket_path(deep).parent
    folder.rmdir()
    if trap == "open to others":
        folder.mkdir()
        folder.chmod(0o755)
    elif trap == "link":
        folder.symlink_to(home)
    else:
        folder.touch(mode=0o700)
    with pytest.raises(PermissionError, match="not a folder of this user alone"):
        queue_server.socket_path(deep)


def test_server_that_cannot_start_is_said_soon_and_not_tried_at_once_again(home: Path) -> None:
    (home / "queue" / "server.log").mkdir(parents=True)
    for words in ("did not start, see", "did not start a moment ago"):
        with pytest.raises(redis.ConnectionError, match=words):
            connect(home).ping()
