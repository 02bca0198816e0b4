"""From a text file to windows of token ids. NumPy and `tokenizers` only; nothing here imports Keras."""
