"""Whole challenges through the public API: data of each kind, good submissions, and those that fail as students' do."""

import gzip
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import custom_data
import numpy as np
import pandas as pd
import pytest
import requests
from sklearn import datasets
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split

import post_api
from servers import Service, wait_until

SUBMISSIONS = Path(__file__).parent / "submissions"
WAIT = 240  # seconds


@dataclass(frozen=True)
class Challenge:
    """A data set with its workflow, and what becomes of each submission: a least score, or a cause and log."""

    files: Callable[[], dict[str, bytes]]
    workflow_elements: str
    target_column: str
    n_train: int
    y_test: Callable[[], np.ndarray]  # what the organiser knows, and datarun's folds do not
    classes: list | None
    good: dict[str, float]
    bad: dict[str, tuple[str, str]]
    held_out_test: float | None = None  # None: the data's own Python file splits them


def docstrings() -> dict[str, bytes]:
    """Return what functions of three packages say of themselves, and the package's name."""
    rows = []
    for package in ("numpy", "pandas", "sklearn.metrics"):
        module = importlib.import_module(package)
        functions = (getattr(module, name, None) for name in sorted(dir(module)) if not name.startswith("_"))
        texts = [text for function in functions if callable(function) and (text := inspect.getdoc(function))]
        rows += [(text[:1500], package) for text in texts[:70]]
    frame = pd.DataFrame(rows, columns=["text", "package"])
    return {"docstrings.csv.gz": gzip.compress(frame.to_csv(index=False).encode())}


def held_out(labels: np.ndarray, share: float) -> np.ndarray:
    return train_test_split(labels, test_size=share, random_state=42)[1]


def linnerud() -> dict[str, bytes]:
    return {"linnerud.tsv": datasets.load_linnerud(as_frame=True).frame.to_csv(index=False, sep="\t").encode()}


CHALLENGES = {
    "text": Challenge(
        docstrings,
        "feature_extractor, classifier",
        "package",
        157,
        lambda: held_out(np.repeat(["numpy", "pandas", "sklearn.metrics"], 70), 0.25),
        ["numpy", "pandas", "sklearn.metrics"],
        {"text_tfidf": 0.8, "text_bayes": 0.7},
        {
            "text_wrong_column": (
                "train_error",
                "Traceback (most recent call last):\n"
                '  File "feature_extractor.py", line 9, in fit\n'
                "    super().fit(X_df.texts)\n"
                "                ^^^^^^^^^^\n",
            ),
            "text_missing_package": (
                "import_error",
                "Traceback (most recent call last):\n"
                '  File "feature_extractor.py", line 1, in <module>\n'
                "    import spacy_of_the_moon\n"
                "ModuleNotFoundError: No module named 'spacy_of_the_moon'\n"
                "Failed while importing the submission: ModuleNotFoundError: No module named 'spacy_of_the_moon'",
            ),
        },
        held_out_test=0.25,
    ),
    "digits": Challenge(
        lambda: custom_data.files_of("digits"),
        "classifier",
        "digit",
        300,
        lambda: custom_data.digits_of_test_part(),
        ["eight", "five", "four", "nine", "one", "seven", "six", "three", "two", "zero"],
        {"images_forest": 0.8},
        {
            "images_predicts_nan": (
                "bad_predictions",
                "The predictions of the training rows are not finite: nan in row",
            ),
            "images_wrong_shape": (
                "bad_predictions",
                "The predictions of the training rows have the shape (300,), expected (300, 10).",
            ),
        },
    ),
    "air_passengers": Challenge(
        lambda: custom_data.files_of("air_passengers"),
        "feature_extractor, regressor",
        "passengers",
        108,
        lambda: pd.read_csv(custom_data.DATA_SETS / "air_passengers" / "passengers.csv")["passengers"][120:],
        None,
        {"passengers_ridge": 0.8},
        {
            "passengers_syntax_error": (
                "import_error",
                '  File "feature_extractor.py", line 9\n'
                "    class FeatureExtractor\n"
                "                          ^\n"
                "SyntaxError: expected ':'\n"
                "Failed while importing the submission: SyntaxError: expected ':'",
            )
        },
    ),
    "linnerud": Challenge(
        linnerud,
        "regressor",
        "Weight, Waist, Pulse",
        16,
        lambda: held_out(datasets.load_linnerud().target, 0.2),
        None,
        {"multi_ridge": -100},
        {
            "multi_ridge_one_target": (
                "bad_predictions",
                "The predictions of the training rows have the shape (16,), expected (16, 3).",
            )
        },
        held_out_test=0.2,
    ),
    "variable_stars": Challenge(
        lambda: custom_data.files_of("variable_stars"),
        "feature_extractor, classifier, calibrator",
        "type",
        63,
        lambda: train_test_split(custom_data.STAR_TYPES, test_size=0.3, random_state=57)[1],
        ["cepheid", "eclipsing", "mira"],
        {"stars_calibrated": 0.8},
        {
            "stars_forgets_self": (
                "train_error",
                "TypeError: FeatureExtractor.transform() takes 1 positional argument but 2 were given\n"
                "Failed while training: TypeError: FeatureExtractor.transform() takes 1 positional argument but 2 were "
                "given",
            )
        },
    ),
}


def ok(answer: requests.Response) -> requests.Response:
    assert answer.ok, answer.text
    return answer


@pytest.mark.parametrize("name", CHALLENGES)
def test_a_challenge_runs_from_its_files_to_scores(service: Service, tmp_path: Path, name: str) -> None:
    challenge, at = CHALLENGES[name], (service.base_url, *service.auth)
    paths = []
    for file, content in challenge.files().items():
        (tmp_path / file).write_bytes(content)
        paths.append(str(tmp_path / file))
    data = ok(
        post_api.post_data(*at, name, challenge.target_column, challenge.workflow_elements, paths[0], paths[1:])
    ).json()
    if challenge.held_out_test is None:
        ok(post_api.custom_post_split(*at, data["id"]))
    else:
        ok(post_api.post_split(*at, challenge.held_out_test, data["id"]))

    first = 1000 * (1 + list(CHALLENGES).index(name))
    folds = {}
    for number, submission in enumerate([*challenge.good, *challenge.bad]):
        files = [str(path) for path in sorted((SUBMISSIONS / submission).glob("*.*"))]
        rows = np.arange(challenge.n_train)
        for k in range(2):
            fold_id = first + 2 * number + k
            train_is, test_is = rows[rows % 4 != k], rows[rows % 4 == k]
            ok(post_api.post_submission_fold(*at, first + number, fold_id, train_is, test_is, "L", data["id"], files))
            folds[fold_id] = submission
    post_api.wait_for_folds(*at, list(folds), timeout=WAIT)

    [data] = [row for row in ok(post_api.get_raw_data(*at)).json() if row["name"] == name]
    assert (data["split_state"], data["n_train"], data["n_test"]) == (
        "DONE",
        challenge.n_train,
        len(challenge.y_test()),
    )
    for fold_id, submission in folds.items():
        fold = ok(post_api.get_submission_fold_detail(*at, fold_id)).json()
        if submission in challenge.good:
            assert (fold["state"], fold["log_messages"]) == ("TESTED", "")
            assert fold["classes"] == challenge.classes
            assert score(fold, challenge) > challenge.good[submission]
        else:
            cause, log = challenge.bad[submission]
            assert (fold["state"], fold["cause"]) == ("ERROR", cause)
            assert log in fold["log_messages"]
            assert str(service.home) not in fold["log_messages"]
            assert (fold["predictions_shape"], fold["classes"]) == (None, None)


def score(fold: dict, challenge: Challenge) -> float:
    """Return the score on the held-out rows, as the organiser would compute it from the fold's answer alone."""
    shape = fold["predictions_shape"]["test_predictions"]
    predictions = post_api.decode_predictions(fold["test_predictions"], shape=shape)
    if challenge.classes:
        return accuracy_score(challenge.y_test(), np.array(challenge.classes)[predictions.argmax(axis=1)])
    return r2_score(challenge.y_test(), predictions)


def test_a_fault_of_the_organisers_file_ends_the_split_and_says_where(service: Service, tmp_path: Path) -> None:
    at = (service.base_url, *service.auth)
    files = custom_data.files_of("air_passengers")
    files["windows.py"] = files["windows.py"].replace(b"series[length:]", b"1 / 0")
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    paths = [str(tmp_path / file) for file in files]
    data = ok(post_api.post_data(*at, "faulty", "passengers", "regressor", paths[0], paths[1:])).json()
    ok(post_api.custom_post_split(*at, data["id"]))

    def split() -> dict:
        [row] = [row for row in ok(post_api.get_raw_data(*at)).json() if row["id"] == data["id"]]
        return row

    wait_until(lambda: split()["split_state"] != "TODO", WAIT, "the split has ended")
    assert (split()["split_state"], split()["n_train"]) == ("ERROR", None)
    assert split()["log_messages"] == (
        "Traceback (most recent call last):\n"
        '  File "specific.py", line 18, in get_train_data\n'
        '    return windows_of(read(raw_data_path, "train.csv"))\n'
        "           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
        '  File "windows.py", line 13, in windows_of\n'
        "    return X, 1 / 0\n"
        "              ~~^~~\n"
        "ZeroDivisionError: division by zero\n"
        "Failed while running get_train_data: ZeroDivisionError: division by zero"
    )
    refused = post_api.post_submission_fold(*at, 9, 9, [0], [1], "L", data["id"], [SUBMISSIONS / "ridge/regressor.py"])
    assert refused.status_code == 400
    assert refused.json()["raw_data"][0].startswith(f"The split of raw data {data['id']} ended in ERROR ")


def test_a_submission_without_an_element_is_refused_by_name(service: Service, tmp_path: Path) -> None:
    at = (service.base_url, *service.auth)
    (tmp_path / "linnerud.tsv").write_bytes(linnerud()["linnerud.tsv"])
    elements = "imputing_transformer, estimator"
    data = ok(post_api.post_data(*at, "no_element", "Weight", elements, str(tmp_path / "linnerud.tsv"))).json()
    ok(post_api.post_split(*at, 0.2, data["id"]))
    files = [SUBMISSIONS / "estimator_ridge/estimator.py"]
    refused = post_api.post_submission_fold(*at, 8, 8, [0], [1], "L", data["id"], files)
    fault = "imputing_transformer.py is missing; expected imputing_transformer.py, estimator.py for the workflow of"
    assert (refused.status_code, refused.json()) == (400, {"files": [f"{fault} no_element."]})
