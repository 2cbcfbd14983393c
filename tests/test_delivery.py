"""What `testpredictions/new/` delivers, over real connections to web as it runs, whatever breaks meanwhile."""

import json
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from posts import IRIS, NEW_FOLD, finish, set_split
from web_server import AUTHORIZATION, NEW, Web, web_server
from workers import SOON

from config import Config
from models import State
from servers import PASSWORD, USERNAME, wait_until

FOLDS = list(range(11, 16))
MB = 1_000_000  # bytes
RESET = struct.pack("ii", 1, 0)  # of SO_LINGER: to close is to reset


@pytest.fixture
def web(config: Config, app: Flask, client: FlaskClient, tmp_path: Path) -> Iterator[Web]:
    """A web server with folds to do."""
    client.post("/runapp/rawdata/", json=IRIS)
    set_split(app, split_state=State.DONE, n_train=6, n_test=2)
    for fold_id in FOLDS:
        client.post("/runapp/submissionfold/", json=NEW_FOLD | {"databoard_sf_id": fold_id})
    with web_server(config, tmp_path) as made:
        yield made


def finish_all(app: Flask, size: int = 40 * MB) -> None:
    """End the folds, with predictions of so many bytes, encoded."""
    finish(app, *FOLDS, predictions=np.random.default_rng(0).random(size * 3 // 4 // (2 * 8 * len(FOLDS))))


@pytest.fixture
def finished(app: Flask, web: Web) -> None:
    finish_all(app)


def still_new(client: FlaskClient) -> list[int]:
    return [fold["databoard_sf_id"] for fold in client.get("/runapp/submissionfold-light/").json if fold["new"]]


def poll(web: Web) -> list[int]:
    """Ask for new predictions, read all of the answer, return the folds."""
    answer = requests.post(f"{web.url}{NEW}", auth=(USERNAME, PASSWORD), timeout=SOON)
    return [fold["databoard_sf_id"] for fold in answer.json()]


def begin(web: Web, size: int) -> tuple[socket.socket, bytes]:
    """Ask for new predictions; return the connection and the first `size` bytes of the answer."""
    connection = web.connect(f"POST {NEW} HTTP/1.0\r\n{AUTHORIZATION}\r\n")
    text = b""
    while len(text) < size:
        text += connection.recv(MB)
    return connection, text


def test_a_connection_reset_in_the_middle_gets_all_again(web: Web, app: Flask, client: FlaskClient) -> None:
    finish_all(app, 100 * MB)
    connection, _text = begin(web, 50 * MB)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()
    assert still_new(client) == FOLDS
    assert poll(web) == FOLDS
    assert poll(web) == []


def test_what_a_killed_server_was_sending_is_sent_again(web: Web, finished: None, client: FlaskClient) -> None:
    connection, text = begin(web, MB)
    killed = web.process
    killed.kill()
    with connection:
        try:
            while piece := connection.recv(MB):
                text += piece
        except ConnectionResetError:
            pass
    assert not text.endswith(b"]\n")
    wait_until(web.answers, SOON, "another process answers")
    assert still_new(client) == FOLDS
    assert poll(web) == FOLDS
    assert poll(web) == []


@pytest.mark.parametrize("replaced", [FOLDS[0], FOLDS[-1]])
def test_a_fold_replaced_while_the_answer_is_sent_is_delivered_anew(
    web: Web, finished: None, client: FlaskClient, app: Flask, replaced: int
) -> None:
    """The first fold was on its way by then, the last one not yet."""
    connection, text = begin(web, MB)
    again = NEW_FOLD | {"databoard_sf_id": replaced, "force": "submission_fold"}
    assert client.post("/runapp/submissionfold/", json=again).status_code == 201
    with connection:
        while piece := connection.recv(MB):
            text += piece
    folds = json.loads(text.partition(b"\r\n\r\n")[2])
    assert {fold["state"] for fold in folds} == {"TESTED"}
    assert [fold["databoard_sf_id"] for fold in folds] == (FOLDS if replaced == FOLDS[0] else FOLDS[:-1])
    assert still_new(client) == [replaced]
    assert poll(web) == []
    finish(app, replaced)
    assert poll(web) == [replaced]


def test_pollers_at_once_get_whole_answers_and_all_folds(web: Web, finished: None, client: FlaskClient) -> None:
    with ThreadPoolExecutor(3) as pollers:
        answers = list(pollers.map(poll, [web] * 3))
    assert {fold_id for answer in answers for fold_id in answer} == set(FOLDS)
    assert all(sorted(set(answer)) == answer for answer in answers)
    assert still_new(client) == []
    assert poll(web) == []


@pytest.mark.usefixtures("database_url")
def test_one_poller_sees_each_fold_once_while_they_end(web: Web, app: Flask) -> None:
    ending = threading.Thread(target=lambda: [finish(app, fold_id) for fold_id in FOLDS])
    ending.start()
    seen: list[int] = []
    wait_until(lambda: seen.extend(poll(web)) or len(seen) >= len(FOLDS), SOON, "all are delivered")
    ending.join()
    assert sorted([*seen, *poll(web)]) == FOLDS


@pytest.mark.parametrize("chunks", ["zz\r\n", "-1\r\n", "2\r\n{}x\r\n"], ids=["no size", "less than none", "no end"])
def test_chunks_that_are_none_are_refused(web: Web, chunks: str) -> None:
    kind = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    head = f"POST {NEW} HTTP/1.1\r\n{AUTHORIZATION}{kind}\r\n"
    with web.connect(head + chunks) as client, client.makefile("rb") as answer:
        whole = answer.read()
    assert whole.startswith(b"HTTP/1.1 400 ")
    assert b"The chunks of the body cannot be read: " in whole
