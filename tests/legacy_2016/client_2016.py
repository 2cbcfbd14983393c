"""
post_api, the client of datarun 0.1 (2016), written again from its documentation.

Its idioms are those of that time on purpose; what differs is what Python 3 and today's numpy demand: files are read
as bytes, base64 is decoded to text for JSON, and tostring and fromstring are tobytes and frombuffer.
"""

import base64
import os
import zlib

import numpy as np
import requests


def _compress_files(list_files):
    files = {}
    for file_name in list_files:
        with open(file_name, "rb") as f:
            content = f.read()
        files[os.path.basename(file_name)] = base64.b64encode(zlib.compress(content)).decode("ascii")
    return files


def _compress_indices(indices):
    return base64.b64encode(zlib.compress(indices.tobytes())).decode("ascii")


def decompress_predictions(text):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=float)


def get_raw_data(host_url, username, password):
    """Get all raw data sets"""
    return requests.get(host_url + "runapp/rawdata/", auth=(username, password))


def post_data(host_url, username, password, data_name, target_column, workflow_elements, data_file):
    """To post data to the datarun api. Data are compressed (with zlib) and base64-encoded before being posted."""
    data = {
        "name": data_name,
        "target_column": target_column,
        "workflow_elements": workflow_elements,
        "files": _compress_files([data_file]),
    }
    return requests.post(host_url + "runapp/rawdata/", auth=(username, password), json=data)


def get_submission_fold_light(host_url, username, password):
    """Get all submissions on cv fold only main info: id, associated submission id, state, and new"""
    return requests.get(host_url + "runapp/submissionfold-light/", auth=(username, password))


def get_submission_fold(host_url, username, password):
    """Get all submission on cv fold (all attributes)"""
    return requests.get(host_url + "runapp/submissionfold/", auth=(username, password))


def get_submission_fold_detail(host_url, username, password, submission_fold_id):
    """Get details about a submission on cv fold given its id"""
    return requests.get(host_url + "runapp/submissionfold/%s/" % submission_fold_id, auth=(username, password))


def post_submission_fold(
    host_url,
    username,
    password,
    sub_id,
    sub_fold_id,
    train_is,
    test_is,
    priority="L",
    raw_data_id=None,
    list_submission_files=None,
):
    """To post submission on cv fold and submission (if not already posted). Priority was never sent."""
    data = {
        "databoard_s_id": sub_id,
        "databoard_sf_id": sub_fold_id,
        "train_is": _compress_indices(train_is),
        "test_is": _compress_indices(test_is),
    }
    if raw_data_id and list_submission_files:
        data["raw_data"] = raw_data_id
        data["files"] = _compress_files(list_submission_files)
    return requests.post(host_url + "runapp/submissionfold/", auth=(username, password), json=data)


def get_prediction_list(host_url, username, password, list_submission_fold_id):
    """Get predictions given a list of submission on cv fold ids"""
    data = {"list_submission_fold": list_submission_fold_id}
    return requests.post(host_url + "runapp/testpredictions/list/", auth=(username, password), json=data)


def get_prediction_new(host_url, username, password, raw_data_id):
    """Get all new predictions given a raw data id"""
    data = {"raw_data_id": raw_data_id}
    return requests.post(host_url + "runapp/testpredictions/new/", auth=(username, password), json=data)
