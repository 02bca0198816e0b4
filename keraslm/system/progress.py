"""Progress of long work, on standard error if that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol, TypeVar

INTERVAL = 0.2  # seconds between two updates

T = TypeVar("T")


class Source(Protocol):
    """What lines are read from: a `TextFile` or `TextFiles`.

    Attributes:
        lines: number of lines read so far.
    """

    @property
    def lines(self) -> int: ...

    def known_size(self) -> int | None:
        """Bytes on the disk; None for standard input and pipes."""

    def position(self) -> int:
        """Bytes read so far, compressed or not; only if the size is known."""


@contextmanager
def meter(title: str, total: int, show: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar over `total` bytes, on standard error if that is a terminal; yields a function of new bytes."""
    if not (show and sys.stderr.isatty()):
        yield lambda _: None
        return
    from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

    with _bar(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(f"{title:<9}", total=total)
        yield lambda amount: bar.update(task, advance=amount)


@contextmanager
def progress(title: str, show: bool, source: Source | None = None, tokens: int | None = None) -> Iterator[Counter]:
    """A bar with lines, tokens per second and time left, on standard error if that is a terminal.

    Args:
        show: whether to show it at all. Do not show it where results are printed to the same terminal meanwhile.
        source: where the lines come from. Its size gives the time that is left.
        tokens: number of all tokens, if it is known.

    Yields:
        A function that passes on the results of lines and counts them. The bar disappears after the last one, before
        something else is printed.

    Example:
        >>> with progress("scoring", True, text) as count:
        ...     for line in count(scorer.score_lines(text)):
        ...         print(line.logprob)
    """
    if not (show and sys.stderr.isatty()):
        yield Counter()
        return
    from rich.progress import TextColumn

    with _bar(TextColumn("{task.fields[text]}")) as bar:
        task = bar.add_task(f"{title:<9}", total=None, text="")

        def update(share: float | None, text: str) -> None:
            bar.update(task, total=None if share is None else 1.0, completed=share or 0.0, text=text)

        yield Counter(update, bar.stop, _share_of(source, tokens))


class Counter:
    """Counts results as they pass; without `update`, they just pass.

    Attributes:
        lines, tokens: numbers so far.
    """

    def __init__(
        self,
        update: Callable[[float | None, str], None] | None = None,
        stop: Callable[[], None] = lambda: None,
        share: Callable[[Counter], float | None] = lambda _: None,
    ):
        self._update, self._stop, self._share = update, stop, share
        self.lines = self.tokens = 0

    def __call__(
        self,
        items: Iterable[T],
        tokens: Callable[[T], int] = lambda item: len(item.ids),  # type: ignore[attr-defined]
        lines: Callable[[T], int] = lambda _: 1,
    ) -> Iterator[T]:
        """The items, by default each the `LineScore` of one line; `tokens` and `lines` tell what an item counts."""
        return iter(items) if self._update is None else self._counted(items, tokens, lines, self._update)

    def _counted(
        self,
        items: Iterable[T],
        tokens: Callable[[T], int],
        lines: Callable[[T], int],
        update: Callable[[float | None, str], None],
    ) -> Iterator[T]:
        begun = shown = time.monotonic()
        for item in items:
            self.lines += lines(item)
            self.tokens += tokens(item)
            now = time.monotonic()
            if now - shown >= INTERVAL:
                shown = now
                share = self._share(self)
                update(share, self._text(now - begun, share))
            yield item
        self._stop()

    def _text(self, seconds: float, share: float | None) -> str:
        parts = [f"{self.lines:,} lines"] * bool(self.lines) + [f"{self.tokens / seconds:,.0f} tokens/s"]
        if share:
            parts.append(f"{timedelta(seconds=round(seconds * (1 - share) / share))} left")
        return "  ".join(parts)


UNCOUNTED = Counter()  # shows nothing


def _share_of(source: Source | None, tokens: int | None) -> Callable[[Counter], float | None]:
    """A function from what has been counted to the share of all work.

    Lines are read ahead, so the share of the bytes is that of the lines read, of which some have no result yet.
    """
    if tokens:
        return lambda counter: min(1.0, counter.tokens / tokens)
    size = source.known_size() if source else None
    if not source or not size:
        return lambda _: None
    return lambda counter: min(1.0, source.position() / size) * min(1.0, counter.lines / max(1, source.lines))


@contextmanager
def _bar(*columns: Any) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # which would print results to standard error
        refresh_per_second=1 / INTERVAL,
    ) as bar:
        yield bar
