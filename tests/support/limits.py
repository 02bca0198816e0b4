"""Small limits, so that a short text is cut everywhere."""

import contextlib

import pytest


@contextlib.contextmanager
def small_limits(module, values):
    """Give names of a module other values, such as the largest number of rows in a call."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(module, name, value)
        yield
