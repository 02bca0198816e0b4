"""Keras layers that Keras itself lacks: recurrent layers that carry their state, dropout and softmaxes.

They run on JAX, TensorFlow and torch. `kernels/` holds the operations that training spends its time in.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras


class Configured(keras.layers.Layer):
    """A layer that is saved as the values of its `ARGUMENTS`, which may be layers and initializers."""

    ARGUMENTS: ClassVar[tuple[str, ...]] = ()

    def get_config(self) -> dict[str, Any]:
        own = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.ARGUMENTS}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})
