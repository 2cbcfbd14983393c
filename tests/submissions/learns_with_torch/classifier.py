import numpy as np
import torch


class Classifier:
    def fit(self, X, y):
        torch.manual_seed(0)
        X = torch.as_tensor(X, dtype=torch.float32)
        y = torch.as_tensor(np.unique(y, return_inverse=True)[1])
        self.net = torch.nn.Sequential(torch.nn.Linear(X.shape[1], 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
        optimizer = torch.optim.Adam(self.net.parameters(), lr=0.05)
        for batch in torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), batch_size=30, num_workers=2):
            for _ in range(50):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1]).backward()
                optimizer.step()

    def predict_proba(self, X):
        with torch.no_grad():
            return self.net(torch.as_tensor(X, dtype=torch.float32)).softmax(1).numpy()
