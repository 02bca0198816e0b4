"""The model that a server serves: its name, its tokenizer, and the workers that compute it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from keraslm.server.batching import Batcher
from keraslm.server.errors import ApiError
from keraslm.server.rows import Facts
from keraslm.server.texts import Texts


@dataclass(frozen=True)
class Model:
    """A model that is ready.

    Attributes:
        context: how far the state is carried in a text.
        created: seconds since 1970.
    """

    name: str
    facts: Facts
    texts: Texts
    batcher: Batcher
    context: str
    created: int = field(default_factory=lambda: int(time.time()))

    def check_name(self, name: str | None) -> None:
        """Raise `ApiError` 404 for the name of a different model; None is this one."""
        if name is not None and name != self.name:
            raise ApiError(
                404, f"model: {name[:200]!r} is not served here, only {self.name!r}.", "model", "model_not_found"
            )
