import os

import numpy as np
from sklearn.model_selection import train_test_split

NAMES = np.array("zero one two three four five six seven eight nine".split())


def prepare_data(raw_data_path):
    with np.load(os.path.join(raw_data_path, "digits.npz")) as posted:
        images, labels = posted["images"], NAMES[posted["labels"]]
    X_train, X_test, y_train, y_test = train_test_split(images, labels, test_size=0.25, random_state=1, stratify=labels)
    np.savez(os.path.join(raw_data_path, "split.npz"), X_train=X_train, X_test=X_test, y_train=y_train, y_test=y_test)


def get_train_data(raw_data_path):
    with np.load(os.path.join(raw_data_path, "split.npz")) as split:
        return split["X_train"], split["y_train"]


def get_test_data(raw_data_path):
    with np.load(os.path.join(raw_data_path, "split.npz")) as split:
        return split["X_test"], split["y_test"]
