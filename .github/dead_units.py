"""Makes the README's picture of a watched loop: a network whose units die while the learning rate is too high.

python .github/dead_units.py && nnvis figures runs/dead_units      # runs/dead_units/figures/dead_fraction.png
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nnvis

torch.manual_seed(0)
torch.set_num_threads(1)
pixels, digits = load_digits(return_X_y=True)
inputs = torch.tensor((pixels - pixels.mean()) / pixels.std(), dtype=torch.float32)
loader = DataLoader(TensorDataset(inputs, torch.tensor(digits)), batch_size=64, shuffle=True)

model = nn.Sequential()
for number in range(1, 11):
    model.add_module(f"linear{number}", layer := nn.Linear(64, 64))
    model.add_module(f"relu{number}", nn.ReLU())
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
model.add_module("output", nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters())

with nnvis.watch(model, optimizer, log_dir="runs/dead_units", every=2) as probe:
    for epoch in range(12):
        optimizer.param_groups[0]["lr"] = 0.1 if epoch == 5 else 0.001  # too high for one epoch
        for batch, targets in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch), targets)
            loss.backward()
            optimizer.step()
            probe.log(loss=loss)
