"""Files, locks, signals, terminals, processes and the Keras backend: everything that touches the operating system.

Nothing here knows about language models. Other rooms pass paths and functions in, and get files that appear complete or
not at all, locks, noted signals, and results computed by worker processes.
"""

from collections.abc import Callable

VERSION = "0.1.0"

Log = Callable[[str], None]  # called with one line of progress text
