"""Files, locks, signals, processes and the Keras backend: what the operating system and the machine decide.

Everything here is independent of language models. Other rooms pass paths and callables in, and get files that appear
complete or not at all, locks, and worker processes.
"""
