"""Keras layers that Keras itself lacks: recurrent layers that carry their state, dropout and softmaxes.

They run on JAX, TensorFlow and torch. `kernels/` holds the operations that training spends its time in.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras


class Configured(keras.layers.Layer):
    """A layer that is saved as the values of its `ARGUMENTS`, which may be layers and initializers.

    `SHARED` names the arguments that are other layers, whose weights this layer uses. Keras copies them with this
    layer. In a model made by `keras.models.clone_model`, a copy is replaced by the layer of that name before this one.
    """

    ARGUMENTS: ClassVar[tuple[str, ...]] = ()
    SHARED: ClassVar[tuple[str, ...]] = ()
    _is_copy = False

    def get_config(self) -> dict[str, Any]:
        own = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.ARGUMENTS}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        made = cls(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})
        made._is_copy = bool(cls.SHARED)
        return made

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._is_copy and not self.built:
            tensors = [tensor for tensor in keras.tree.flatten(args) if keras.backend.is_keras_tensor(tensor)]
            if tensors:
                graph = keras.Model(keras.utils.get_source_inputs(tensors[0]), tensors[0])
                for argument, layer in self._shared_in({layer.name: layer for layer in graph.layers}).items():
                    self._tracker.untrack(getattr(self, argument))  # Keras has no public way to forget a layer
                    setattr(self, argument, layer)
        return super().__call__(*args, **kwargs)

    def _shared_in(self, layers: dict[str, keras.layers.Layer]) -> dict[str, keras.layers.Layer]:
        """For each shared argument that is a copy of a layer of a graph, or uses such a copy: what to use instead."""
        found = {}
        for argument in self.SHARED:
            own = getattr(self, argument)
            same = own and layers.get(own.name)
            if own is None or same is own:
                continue
            if same is not None and type(own) is type(same):
                found[argument] = same
            elif isinstance(own, Configured) and (inner := own._shared_in(layers)):
                values = {name: keras.saving.deserialize_keras_object(v) for name, v in own.get_config().items()}
                found[argument] = type(own)(**values | inner)
                found[argument].build_from_config(own.get_build_config())
        return found
