"""SGD and AdamW with clipping, decay, per-window rates and averages of the weights, in few passes over the weights.

They receive the gradients of a Keras model, update its weights, and keep averages of them and the norm of the gradient.
"""
