"""Slow clients, against the web server as it runs: they get what they ask for, or keep no thread from others."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from posts import IRIS, NEW_FOLD, finish, set_split
from web_server import AUTHORIZATION, NEW, Web, web_server
from workers import SOON

from config import Config
from models import State
from servers import wait_until

PATIENCE = 1  # seconds, of impatient.conf.py
THREADS = 4
PROMPT = 20  # seconds; gunicorn alone would take 24 for clients that never hang up
SMALL = 4096  # bytes of a buffer


@pytest.fixture
def web(config: Config, app: Flask, tmp_path: Path) -> Iterator[Web]:
    with web_server(config, tmp_path, "tests/impatient.conf.py") as made:
        yield made


@pytest.fixture
def predictions(client: FlaskClient, app: Flask) -> int:
    """Finish two folds; return how many bytes their predictions are."""
    client.post("/runapp/rawdata/", json=IRIS)
    set_split(app, split_state=State.DONE, n_train=6, n_test=2)
    for fold_id in (11, 12):
        client.post("/runapp/submissionfold/", json=NEW_FOLD | {"databoard_sf_id": fold_id})
    array = np.random.default_rng(0).random(100_000)
    finish(app, 11, 12, predictions=array)
    return 4 * array.nbytes


def still_new(client: FlaskClient) -> list[int]:
    return [fold["databoard_sf_id"] for fold in client.get("/runapp/submissionfold-light/").json if fold["new"]]


def reads_nothing(web: Web) -> socket.socket:
    return web.connect(f"POST {NEW} HTTP/1.0\r\n{AUTHORIZATION}\r\n", SMALL)


def stops_in_its_headers(web: Web) -> socket.socket:
    return web.connect(f"POST {NEW} HTTP/1.1\r\nX-Slow: ")


def stops_in_its_body(web: Web) -> socket.socket:
    return web.connect(f'POST {NEW} HTTP/1.1\r\n{AUTHORIZATION}Content-Length: 1000\r\n\r\n{{"raw_data_id"')


@pytest.mark.parametrize("stop", [reads_nothing, stops_in_its_headers, stops_in_its_body])
@pytest.mark.parametrize("byte_by_byte", [False, True])
def test_slow_clients_do_not_keep_others_waiting(
    web: Web,
    predictions: int,
    client: FlaskClient,
    stop: Callable[[Web], socket.socket],
    byte_by_byte: bool,
) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(stop(web)) for _ in range(THREADS)]
        deadline = time.monotonic() + 4 * PATIENCE
        while byte_by_byte and time.monotonic() < deadline:
            for slow in clients:
                move(slow, reads=stop is reads_nothing)
            time.sleep(0.05)
        began = time.monotonic()
        assert web.answers()
        assert time.monotonic() - began < PROMPT
        wait_until(lambda: web.log.read_text().count("too slow") == THREADS, SOON, "each is given up")
    assert still_new(client) == [11, 12]


def move(slow: socket.socket, reads: bool) -> None:
    """Read or write a byte, as long as there is somebody at the other end."""
    try:
        if reads:
            slow.recv(1)
        else:
            slow.send(b" ")
    except OSError:
        return


def test_clients_that_never_hang_up_do_not_keep_others_waiting(web: Web) -> None:
    with ExitStack() as stack:
        for _ in range(3 * THREADS):  # gunicorn itself waits 2 s for each, and accepts nobody meanwhile
            stack.enter_context(web.connect("GET /healthz HTTP/1.0\r\n\r\n"))
        began = time.monotonic()
        assert web.answers()
        assert time.monotonic() - began < PROMPT


def test_a_slow_line_gets_all_it_asks_for(web: Web, predictions: int, client: FlaskClient) -> None:
    text = b""
    began = time.monotonic()
    with reads_nothing(web) as slow:
        while piece := slow.recv(65_536):
            text += piece
            time.sleep(len(piece) / 2e6)
    assert time.monotonic() - began > PATIENCE
    assert len(text) > predictions
    assert [fold["databoard_sf_id"] for fold in json.loads(text.partition(b"\r\n\r\n")[2])] == [11, 12]
    assert still_new(client) == []


def test_a_slow_line_sends_all_it_has(web: Web, client: FlaskClient) -> None:
    body = json.dumps(IRIS | {"files": {"iris.csv": "width,species\n" + "1,a\n" * 100_000}})
    head = f"POST /runapp/rawdata/ HTTP/1.1\r\n{AUTHORIZATION}Content-Type: application/json\r\n"
    with web.connect(f"{head}Content-Length: {len(body)}\r\n\r\n") as slow:
        for start in range(0, len(body), 8192):
            slow.sendall(body[start : start + 8192].encode())
            time.sleep(4 * PATIENCE * 8192 / len(body))
        assert b"201 CREATED" in slow.recv(1000)


def test_clients_of_a_unix_socket_are_served_and_not_for_ever(config: Config, app: Flask, tmp_path: Path) -> None:
    with (
        TemporaryDirectory(prefix="datarun-web-") as folder,  # a socket's path must be short
        web_server(config, tmp_path, "tests/impatient.conf.py", Path(folder, "s")) as web,
        stops_in_its_headers(web),
    ):
        wait_until(lambda: "a client of a Unix socket: too slow" in web.log.read_text(), SOON, "it is given up")
