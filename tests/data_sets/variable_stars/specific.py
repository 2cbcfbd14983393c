"""The custom file of the variable stars challenge of 2016, on today's pandas."""

import os
from importlib import import_module

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split

held_out_test_size = 0.3
random_state = 57
target_column_name = "type"
n_CV = 2


def csv_array_to_float(csv_array_string):
    return list(map(float, csv_array_string[1:-1].split(",")))


def read_data(df_filename, vf_filename):
    data = pd.read_csv(df_filename, index_col=0)
    y_array = data[target_column_name].values
    X_df = data.drop(target_column_name, axis=1)
    varlength_features = pd.read_csv(vf_filename, index_col=0, compression="gzip")
    for column in varlength_features.columns:
        X_df[column] = [csv_array_to_float(text) for text in varlength_features[column].loc[X_df.index]]
    X_list = [row for _, row in X_df.iterrows()]
    return X_list, y_array


def prepare_data(raw_data_path):
    df = pd.read_csv(os.path.join(raw_data_path, "data.csv"), index_col=0)
    vf = pd.read_csv(os.path.join(raw_data_path, "data_varlength_features.csv.gz"), index_col=0, compression="gzip")
    train_is, test_is = train_test_split(np.arange(len(df)), test_size=held_out_test_size, random_state=random_state)
    for name, rows in (("train", train_is), ("test", test_is)):
        df.iloc[rows].to_csv(os.path.join(raw_data_path, f"public_{name}.csv"))
        vf.iloc[rows].to_csv(os.path.join(raw_data_path, f"{name}_varlength.csv.gz"), compression="gzip")


def get_train_data(raw_data_path):
    return read_data(
        os.path.join(raw_data_path, "public_train.csv"), os.path.join(raw_data_path, "train_varlength.csv.gz")
    )


def get_test_data(raw_data_path):
    return read_data(
        os.path.join(raw_data_path, "public_test.csv"), os.path.join(raw_data_path, "test_varlength.csv.gz")
    )


def train_submission(module_path, X_list, y_array, train_is):
    X_train_list = [X_list[i] for i in train_is]
    y_train_array = np.array([y_array[i] for i in train_is])

    # Feature extraction
    feature_extractor = import_module(".feature_extractor", module_path)
    fe = feature_extractor.FeatureExtractor()
    fe.fit(X_train_list, y_train_array)
    X_train_array = fe.transform(X_train_list)

    # Calibration
    cv = StratifiedShuffleSplit(n_splits=1, test_size=0.1, random_state=57)
    [(calib_train_is, calib_is)] = cv.split(X_train_array, y_train_array)
    classifier = import_module(".classifier", module_path)
    clf = classifier.Classifier()
    clf.fit(X_train_array[calib_train_is], y_train_array[calib_train_is])
    calibrator = import_module(".calibrator", module_path)
    calib = calibrator.Calibrator()
    calib.fit(clf.predict_proba(X_train_array[calib_is]), y_train_array[calib_is])
    return fe, clf, calib


def test_submission(trained_model, X_list, test_is):
    X_test_list = [X_list[i] for i in test_is]
    fe, clf, calib = trained_model
    X_test_array = fe.transform(X_test_list)
    return calib.predict_proba(clf.predict_proba(X_test_array))
