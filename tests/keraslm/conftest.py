"""Trainings that are stopped."""

from tests.support.resuming import own_folder, stopped  # noqa: F401
