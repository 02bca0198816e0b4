"""A progress bar over the bytes of a text, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def meter(title: str, total: int, show: bool) -> Iterator[Callable[[int], None]]:
    """Show how much of a text has been read; on standard error, and only where that is a terminal.

    Args:
        title: what is being done.
        total: bytes to read.
        show: False shows nothing anywhere.

    Example:
        >>> with meter("encoding", 1000, show=True) as advance:
        ...     advance(500)
    """
    if not (show and sys.stderr.isatty()):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{title:<9}", total=total)
        yield lambda amount: progress.update(task, advance=amount)
