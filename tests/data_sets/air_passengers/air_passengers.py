import os

import pandas as pd
from windows import windows_of


def read(raw_data_path, name):
    return pd.read_csv(os.path.join(raw_data_path, name), index_col="month", parse_dates=True)["passengers"]


def prepare_data(raw_data_path):
    passengers = read(raw_data_path, "passengers.csv")
    passengers[:120].to_csv(os.path.join(raw_data_path, "train.csv"))
    passengers[108:].to_csv(os.path.join(raw_data_path, "test.csv"))


def get_train_data(raw_data_path):
    return windows_of(read(raw_data_path, "train.csv"))


def get_test_data(raw_data_path):
    return windows_of(read(raw_data_path, "test.csv"))
