"""Optimizers with clipping, decay and averages of the weights, in few passes over them."""
