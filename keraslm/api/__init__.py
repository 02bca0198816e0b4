"""The Python API: `train`, `evaluate` and `average` do what the commands of the same names do.

No import here loads Keras: each call selects the backend first and then imports what needs it.
"""

from __future__ import annotations

from typing import Literal

Backend = Literal["jax", "tensorflow", "torch"]
