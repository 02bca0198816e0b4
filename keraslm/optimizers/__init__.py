"""SGD and AdamW with clipping by global norm, weight decay and averages of the weights, in few passes over them.

Gradients come in and weights are updated in place; there is one file of updates per backend.
"""
