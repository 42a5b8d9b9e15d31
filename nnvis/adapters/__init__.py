"""`nnvis.watch` as a callback, for loops that a library runs. Each module needs its library, and only that.

from nnvis.adapters.lightning import WatchCallback       # Trainer(callbacks=[WatchCallback("runs/mine")])
from nnvis.adapters.transformers import WatchCallback    # Trainer(..., callbacks=[WatchCallback("runs/mine")])
from nnvis.adapters.skorch import WatchCallback          # NeuralNet(..., callbacks=[WatchCallback("runs/mine")])
"""
