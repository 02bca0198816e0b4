"""From text files to windows of token ids, with NumPy and `tokenizers` only.

Paths come in; a tokenizer, ids and windows go out: files, compression -> tokenizer, vocabulary -> encoding, store ->
stream.
"""
