"""From text files to windows of token ids, with NumPy and `tokenizers` only.

Paths come in; a tokenizer, ids and windows go out. In the order of the data: paths, compression, sniff, streams,
files, held_out, corpus -> tokenizer, vocabulary, importing -> encoders, encoding, store -> context, weights, epochs,
stream.
"""
