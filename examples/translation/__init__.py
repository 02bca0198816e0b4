"""Neural machine translation with the layers, kernels, checkpoints and export helpers of keraslm."""
