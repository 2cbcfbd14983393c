from sklearn.ensemble import HistGradientBoostingRegressor


class Regressor(HistGradientBoostingRegressor):
    def __init__(self):
        super().__init__(max_iter=30, random_state=1)
