"""nnvis: see how your network learns, and why it doesn't."""
