import pandas as pd


class Window:
    """The year before a month."""

    def __init__(self, past: pd.Series) -> None:
        self.past = past


def windows_of(series, length=12):
    X = [Window(series[i : i + length]) for i in range(len(series) - length)]
    return X, series[length:]
