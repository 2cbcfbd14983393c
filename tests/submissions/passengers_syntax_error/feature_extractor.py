import json
from pathlib import Path

import numpy as np

EXTERNAL = json.loads((Path(__file__).parent / "holidays.json").read_text())


class FeatureExtractor
    def fit(self, X, y):
        assert json.loads(Path("holidays.json").read_text()) == EXTERNAL

    def transform(self, X):
        return np.array([[*window.past, EXTERNAL[str(window.past.index[0].month)]] for window in X])
