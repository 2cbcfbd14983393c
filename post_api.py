"""The Python client of datarun, in one file: copy it next to your program. It needs requests and numpy.

Each `get_...` and `post_...` function sends one request to the service at `host_url` (such as
`http://127.0.0.1:8000/`) as the user `username` and returns the `requests.Response`, whatever its status: call
`.raise_for_status()` or look at `.status_code`, then take the answer from `.json()`. They raise
`requests.RequestException` where no answer came. The others raise what their docstrings say.
"""

import base64
import io
import json
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import requests
from numpy.typing import ArrayLike
from urllib3.fields import RequestField

try:
    from tqdm import tqdm
except ImportError:
    tqdm = None

__all__ = [
    "cancel_submission_fold",
    "custom_post_split",
    "decode_predictions",
    "delete_raw_data",
    "delete_submission_fold",
    "get_prediction_list",
    "get_prediction_new",
    "get_raw_data",
    "get_submission_fold",
    "get_submission_fold_detail",
    "get_submission_fold_light",
    "post_data",
    "post_split",
    "post_submission_fold",
    "wait_for_folds",
]

TIMEOUT = (30, 300)  # seconds: to connect or send a block; for the answer to begin or go on
LARGE_FILES = 8_000_000  # bytes of one request's files, above which they are streamed as multipart/form-data
BLOCK_SIZE = 65_536  # bytes read and sent at a time
FEW_FOLDS = 4  # up to so many folds are asked for one by one, more of them by the light list of all folds
OUTAGE = 120  # seconds during which `wait_for_folds` bears a service that does not answer
UNAVAILABLE = (502, 503, 504)  # statuses of a service, or a proxy before it, that will be back

FilePath = str | os.PathLike[str]


def get_raw_data(host_url: str, username: str, password: str) -> requests.Response:
    """List all raw data.

    Returns
    -------
    requests.Response
        200; JSON: a list of raw data.
    """
    return _request("GET", host_url, username, password, "rawdata/")


def post_data(
    host_url: str,
    username: str,
    password: str,
    data_name: str,
    target_column: str,
    workflow_elements: str,
    data_file: FilePath,
    extra_files: Iterable[FilePath] | None = None,
) -> requests.Response:
    """Post a data set.

    Parameters
    ----------
    data_name : str
        Name of the data set: unique, at most 40 characters, safe as a file name.
    target_column : str
        Name of the column to predict.
    workflow_elements : str
        What a submission consists of, in order and separated by commas, e.g. ``"feature_extractor, classifier"``.
    data_file : path
        The data: a CSV whose first row names the columns. It travels by its name, without its folders.
    extra_files : iterable of paths, optional
        Further files of the data set; for data in another form a Python file among them.

    Returns
    -------
    requests.Response
        201; JSON: the raw data with its `id`.

    Raises
    ------
    OSError
        A file cannot be read.
    ValueError
        Two files have the same name.
    """
    body = {"name": data_name, "target_column": target_column, "workflow_elements": workflow_elements}
    return _post(host_url, username, password, "rawdata/", body, [data_file, *(extra_files or ())])


def post_split(
    host_url: str, username: str, password: str, held_out_test: float, raw_data_id: int, random_state: int = 42
) -> requests.Response:
    """Split a data set into the training part and the held-out test part.

    The rows of the two parts are those of scikit-learn's `train_test_split(np.arange(n), test_size=held_out_test,
    random_state=random_state)` on a data set of n rows, in that order.

    Parameters
    ----------
    held_out_test : float
        Fraction of the rows that are held out, between 0 and 1, both excluded.
    raw_data_id : int
        The data set, by the `id` in the answer to `post_data`.
    random_state : int, default 42
        Seed of the split.

    Returns
    -------
    requests.Response
        200; JSON: the split's `task_id`. The raw data's `split_state` tells when it is made; folds
        can be posted at once, and wait for it.
    """
    body = {"random_state": random_state, "held_out_test": held_out_test, "raw_data_id": raw_data_id}
    return _post(host_url, username, password, "rawdata/split/", body)


def custom_post_split(host_url: str, username: str, password: str, raw_data_id: int) -> requests.Response:
    """Split a data set by the functions of its own Python file.

    Returns
    -------
    requests.Response
        200; JSON: the split's `task_id`.
    """
    return _post(host_url, username, password, "rawdata/customsplit/", {"raw_data_id": raw_data_id})


def get_submission_fold(host_url: str, username: str, password: str) -> requests.Response:
    """List all submission folds with all attributes, indices and predictions included.

    Returns
    -------
    requests.Response
        200; JSON: a list of folds. Use `get_submission_fold_light` where their states suffice.
    """
    return _request("GET", host_url, username, password, "submissionfold/")


def get_submission_fold_light(host_url: str, username: str, password: str) -> requests.Response:
    """List all submission folds with their ids, submissions, states and whether they are new.

    Returns
    -------
    requests.Response
        200; JSON: a list of objects with `databoard_sf_id`, `databoard_s`, `state` and `new`.
    """
    return _request("GET", host_url, username, password, "submissionfold-light/")


def get_submission_fold_detail(
    host_url: str, username: str, password: str, submission_fold_id: int
) -> requests.Response:
    """Get one submission fold with all attributes.

    Returns
    -------
    requests.Response
        200; JSON: the fold. Times are in seconds, memory is in kB; `queue_position` counts the waiting folds that come
        before it, and is null where it does not wait for a worker. 404 where there is none of this id.
    """
    return _request("GET", host_url, username, password, f"submissionfold/{submission_fold_id}/")


def cancel_submission_fold(host_url: str, username: str, password: str, submission_fold_id: int) -> requests.Response:
    """Stop a submission fold, which ends in state ERROR with the cause `cancelled`.

    Returns
    -------
    requests.Response
        200; JSON: the fold, unchanged where it had ended before. 404 where there is none of this id.
    """
    return _request("POST", host_url, username, password, f"submissionfold/{submission_fold_id}/cancel/")


def delete_submission_fold(host_url: str, username: str, password: str, submission_fold_id: int) -> requests.Response:
    """Remove a submission fold, stopped where it runs. Its submission stays, and takes further folds without files.

    Returns
    -------
    requests.Response
        204, without a body. 404 where there is none of this id.
    """
    return _request("DELETE", host_url, username, password, f"submissionfold/{submission_fold_id}/")


def delete_raw_data(
    host_url: str, username: str, password: str, raw_data_id: int, force: bool = False
) -> requests.Response:
    """Remove a data set.

    Parameters
    ----------
    force : bool, default False
        Remove its submissions and their folds too, stopped where they run; without it, a data set that has submissions
        is refused (400).

    Returns
    -------
    requests.Response
        204, without a body. 404 where there is none of this id.
    """
    query = {"force": "true"} if force else {}
    return _request("DELETE", host_url, username, password, f"rawdata/{raw_data_id}/", params=query)


def post_submission_fold(
    host_url: str,
    username: str,
    password: str,
    sub_id: int,
    sub_fold_id: int,
    train_is: ArrayLike,
    test_is: ArrayLike,
    priority: str = "L",
    raw_data_id: int | None = None,
    list_submission_files: Iterable[FilePath] | None = None,
    force: str | None = None,
) -> requests.Response:
    """Post a submission fold, and its submission at the submission's first fold.

    Parameters
    ----------
    sub_id, sub_fold_id : int
        Ids of the submission and of the fold, which the caller chooses.
    train_is, test_is : sequence of integers, shapes (n,) and (m,)
        Rows to train and to validate on, counted from 0 in the order of the training part (see `post_split`).
    priority : {"L", "H"}, default "L"
        Low or high: all waiting folds of high priority are trained before those of low priority.
    raw_data_id : int, optional
        The submission's data set; required with a new submission.
    list_submission_files : iterable of paths, optional
        The submission's files, required with a new submission: one for each workflow element (`classifier.py`, ...)
        and those that they read. They travel by their names, without their folders.
    force : {"submission_fold", "submission, submission_fold"}, optional
        Replace a fold that exists, or the submission as well.

    Returns
    -------
    requests.Response
        201; JSON: the fold with its `task_id`.

    Raises
    ------
    TypeError
        `train_is` or `test_is` holds something other than integers.
    ValueError
        `train_is` or `test_is` is not one-dimensional, or two files have the same name.
    OSError
        A file cannot be read.
    """
    body = {
        "databoard_s_id": sub_id,
        "databoard_sf_id": sub_fold_id,
        "train_is": _encode_indices("train_is", train_is),
        "test_is": _encode_indices("test_is", test_is),
        "priority": priority,
        "raw_data": raw_data_id,
        "force": force,
    }
    return _post(host_url, username, password, "submissionfold/", body, list_submission_files or ())


def get_prediction_list(
    host_url: str, username: str, password: str, list_submission_fold_id: Iterable[int]
) -> requests.Response:
    """Get the predictions of the given submission folds.

    Returns
    -------
    requests.Response
        200; JSON: a list of those of the folds that exist, whatever their state. `decode_predictions` reads
        `full_train_predictions` and `test_predictions`, which are null until they are known.
    """
    body = {"list_submission_fold": list(list_submission_fold_id)}
    return _post(host_url, username, password, "testpredictions/list/", body)


def get_prediction_new(
    host_url: str, username: str, password: str, raw_data_id: int | None = None
) -> requests.Response:
    """Get the predictions that have not been delivered yet, which marks them as delivered.

    Parameters
    ----------
    raw_data_id : int, optional
        Only those of this data set.

    Returns
    -------
    requests.Response
        200; JSON: a list of folds in state TESTED, as from `get_prediction_list`.
    """
    return _post(host_url, username, password, "testpredictions/new/", {"raw_data_id": raw_data_id})


def decode_predictions(text: str, n_columns: int | None = None, shape: Sequence[int] | None = None) -> np.ndarray:
    """Read the predictions in an answer.

    `decode_predictions(fold["test_predictions"], shape=fold["predictions_shape"]["test_predictions"])` needs no
    knowledge of the data; `fold["classes"]` names the columns where they are probabilities.

    Parameters
    ----------
    text : str
        `full_train_predictions` or `test_predictions` of a fold in state TESTED.
    n_columns : int, optional
        Of a classifier, the number of classes; of a regressor with several targets, their number.
    shape : sequence of int, optional
        The shape of the array, in place of the number of columns.

    Returns
    -------
    ndarray of float64, shape (n,), (n, n_columns) or `shape`
        For a classifier, the probabilities of the classes of the training part in sorted order.

    Raises
    ------
    TypeError
        `text` is None: there are no predictions yet.
    ValueError
        `text` is no encoded array, or its size is no multiple of `n_columns`, or not that of `shape`.
    """
    try:
        predictions = np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), "<f8").astype(np.float64)
    except zlib.error as error:
        raise ValueError(f"not compressed by zlib: {error}") from None
    if shape is not None:
        return predictions.reshape(tuple(shape))
    return predictions if n_columns is None else predictions.reshape(-1, n_columns)


def wait_for_folds(
    host_url: str,
    username: str,
    password: str,
    fold_ids: Iterable[int],
    timeout: float | None = None,
    interval: float = 1.0,
) -> dict[int, str]:
    """Wait until submission folds are trained and tested, with a progress bar on a terminal if tqdm is installed.

    A service that cannot be reached, or says that it is unavailable, is asked again for `OUTAGE` seconds.

    Parameters
    ----------
    fold_ids : iterable of int
        The folds to wait for.
    timeout : float, optional
        Longest time to wait, in seconds; no limit by default.
    interval : float, default 1.0
        Time between two looks, in seconds.

    Returns
    -------
    dict of int to str
        The state of each fold: TESTED or ERROR.

    Raises
    ------
    TimeoutError
        Some folds, which it names, were still waiting after `timeout` seconds.
    LookupError
        There is no fold with one of these ids.
    requests.RequestException
        The service did not answer for `OUTAGE` seconds, or refused (wrong password, for example).
    """
    states = dict.fromkeys((int(i) for i in fold_ids), "")
    waiting = list(states)
    answered = time.monotonic()
    deadline = float("inf") if timeout is None else answered + timeout
    with tqdm(total=len(states), unit="fold", disable=None) if tqdm else nullcontext() as bar:
        while waiting:
            try:
                states.update(_get_states(host_url, username, password, waiting, deadline))
                answered = time.monotonic()
            except requests.RequestException as error:
                if not _may_pass(error) or time.monotonic() - answered > OUTAGE:
                    raise
            waiting = [i for i in waiting if states[i] not in ("TESTED", "ERROR")]
            if bar is not None:
                bar.update(len(states) - len(waiting) - bar.n)
            if waiting:
                if (remaining := deadline - time.monotonic()) <= 0:
                    raise TimeoutError(f"After {timeout} s, these folds still wait: {', '.join(map(str, waiting))}.")
                time.sleep(min(interval, remaining))
    return states


def _get_states(host_url: str, username: str, password: str, ids: list[int], deadline: float) -> dict[int, str]:
    """Get the present states of the given folds; an answer that does not come by the deadline is a Timeout."""
    few = len(ids) <= FEW_FOLDS
    folds = []
    for path in [f"submissionfold/{i}/" for i in ids] if few else ["submissionfold-light/"]:
        patience = max(1.0, min(TIMEOUT[1], deadline - time.monotonic()))
        response = _request("GET", host_url, username, password, path, timeout=patience)
        if response.status_code != 404:
            response.raise_for_status()
            folds += [response.json()] if few else response.json()
    states = {fold["databoard_sf_id"]: fold["state"] for fold in folds}
    if missing := [i for i in ids if i not in states]:
        raise LookupError(f"There are no folds {', '.join(map(str, missing))}.")
    return {i: states[i] for i in ids}


def _may_pass(error: requests.RequestException) -> bool:
    """Whether the service may answer if it is asked again."""
    if error.response is not None:
        return error.response.status_code in UNAVAILABLE
    return isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError)


def _post(
    host_url: str, username: str, password: str, path: str, body: dict[str, Any], files: Iterable[FilePath] = ()
) -> requests.Response:
    """Post a body, where values of None are left out, and files: in JSON, or streamed where they are large."""
    body = {name: value for name, value in body.items() if value is not None}
    paths = [Path(file) for file in files]
    if len({path.name for path in paths}) < len(paths):
        raise ValueError(f"several files have the same name: {', '.join(map(str, paths))}")
    if sum(path.stat().st_size for path in paths) > LARGE_FILES:
        data = _Multipart(body, paths)
        content_type = data.content_type
    else:
        if paths:
            body["files"] = {path.name: _encode(path.read_bytes()) for path in paths}
        # in a file, from which urllib3 sends blocks: the time limit then holds for each and not for the whole
        data = io.BytesIO(json.dumps(body, default=np.generic.item).encode())
        content_type = "application/json"
    return _request("POST", host_url, username, password, path, data=data, headers={"Content-Type": content_type})


def _request(
    method: str, host_url: str, username: str, password: str, path: str, *, timeout: Any = TIMEOUT, **kwargs: Any
) -> requests.Response:
    """Send a request; requests would encode text credentials as Latin-1, where the service reads UTF-8."""
    auth = (username.encode(), password.encode())
    return requests.request(method, f"{host_url.rstrip('/')}/runapp/{path}", auth=auth, timeout=timeout, **kwargs)


class _Multipart:
    """A multipart/form-data body (RFC 7578) that reads its files while it is sent; its `len` is its size in bytes."""

    def __init__(self, fields: dict[str, Any], paths: Iterable[Path]) -> None:
        self._boundary = uuid4().hex
        self.content_type = f"multipart/form-data; boundary={self._boundary}"
        self._fields = [self._get_head(name) + str(value).encode() for name, value in fields.items()]
        self._files = [(self._get_head("files", path.name), path, path.stat().st_size) for path in paths]
        self._end = f"--{self._boundary}--\r\n".encode()

    def _get_head(self, name: str, file_name: str | None = None) -> bytes:
        field = RequestField(name, data=b"", filename=file_name)
        field.make_multipart()
        return f"--{self._boundary}\r\n{field.render_headers()}".encode()

    def __len__(self) -> int:
        fields = sum(len(field) + 2 for field in self._fields)
        return fields + sum(len(head) + size + 2 for head, _, size in self._files) + len(self._end)

    def __iter__(self) -> Iterator[bytes]:
        for field in self._fields:
            yield field + b"\r\n"
        for head, path, size in self._files:
            yield head
            yield from _read_blocks(path, size)
            yield b"\r\n"
        yield self._end


def _read_blocks(path: Path, size: int) -> Iterator[bytes]:
    """Read the first `size` bytes of a file: no more, since that size has been announced."""
    with path.open("rb") as file:
        while size:
            block = file.read(min(BLOCK_SIZE, size))
            if not block:
                raise OSError(f"{path} became shorter while it was sent")
            size -= len(block)
            yield block


def _encode(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


def _encode_indices(name: str, indices: ArrayLike) -> str:
    """Encode row indices as little-endian int64; see `post_submission_fold` for what is refused."""
    array = np.asarray(indices)
    if array.ndim != 1:
        raise ValueError(f"{name} has the shape {array.shape}; expected a sequence of integers")
    # numpy makes integers of booleans that stand in a list among integers
    booleans = isinstance(indices, list | tuple) and any(isinstance(i, bool | np.bool_) for i in indices)
    if array.size and (booleans or array.dtype.kind not in "iu"):
        raise TypeError(f"{name} holds {'bool' if booleans else array.dtype}; expected integers")
    return _encode(array.astype("<i8").tobytes())
