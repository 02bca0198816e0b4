"""Names and shapes of the weights that follow from a configuration."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

from keraslm.config.clusters import adaptive_shapes
from keraslm.config.model import ModelConfig
from keraslm.errors import ConfigError, shown

Shapes = dict[str, tuple[int, ...]]
T = TypeVar("T")

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def cell_shapes(config: ModelConfig, inputs: int, units: int) -> Shapes:
    """Name and shape of each weight of one recurrent layer, in the layer's order.

    Args:
        config: of the network.
        inputs: D, size of the input at each step.
        units: H.

    Example:
        >>> cell_shapes(ModelConfig(cell="gru"), inputs=5, units=2)
        {'kernel': (5, 6), 'recurrent_kernel': (2, 6), 'bias': (2, 6)}
    """
    width = (GATES[config.cell] - (config.input_gate == "tied")) * units
    bias = (2, width) if config.cell == "gru" else (width,)
    shapes: Shapes = {"kernel": (inputs, width), "recurrent_kernel": (units, width), "bias": bias}
    return shapes | mogrifier_shapes(inputs, units, config.mogrifier_rounds, config.mogrifier_rank)


def mogrifier_shapes(inputs: int, units: int, rounds: int, rank: int | None) -> Shapes:
    """Name and shape of the matrices of a Mogrifier, round by round.

    Args:
        inputs: D.
        units: H.
        rounds: number of gates; odd rounds gate the input, even rounds h.
        rank: of the two factors of each matrix; None means one full matrix.

    Example:
        >>> mogrifier_shapes(5, 2, rounds=2, rank=None)
        {'mogrifier_1': (2, 5), 'mogrifier_2': (5, 2)}
        >>> mogrifier_shapes(5, 2, rounds=1, rank=1)
        {'mogrifier_1_left': (2, 1), 'mogrifier_1_right': (1, 5)}
    """
    shapes: Shapes = {}
    for number in range(1, rounds + 1):
        name, (rows, columns) = f"mogrifier_{number}", (units, inputs) if number % 2 else (inputs, units)
        if rank:
            shapes |= {f"{name}_left": (rows, rank), f"{name}_right": (rank, columns)}
        else:
            shapes[name] = (rows, columns)
    return shapes


def by_round(factors: Sequence[T], rank: int | None) -> list[Sequence[T]]:
    """The factors of a Mogrifier, in the order of `mogrifier_shapes`, as one group per round.

    Example:
        >>> by_round(["mogrifier_1_left", "mogrifier_1_right"], rank=1)
        [['mogrifier_1_left', 'mogrifier_1_right']]
    """
    each = 2 if rank else 1
    return [factors[i : i + each] for i in range(0, len(factors), each)]


def weight_shapes(config: ModelConfig, vocab_size: int) -> Shapes:
    """Name and shape of each trained weight, lowest layer first.

    Example:
        >>> weight_shapes(ModelConfig(num_layers=1, units=2), vocab_size=5)["lstm_0/kernel"]
        (2, 8)
    """
    shapes: Shapes = {"embedding/embeddings": (vocab_size, config.embedding_size)}
    inputs = config.embedding_size
    for number, units in enumerate(config.sizes):
        layer = cell_shapes(config, inputs, units)
        shapes |= {f"{config.cell}_{number}/{name}": shape for name, shape in layer.items()}
        inputs = units
    return shapes | {f"logits/{name}": shape for name, shape in softmax_shapes(config, vocab_size).items()}


def frozen_weights(config: ModelConfig, freeze: Collection[str]) -> list[str]:
    """Names of the weights of layers, or the weights themselves, that are not trained.

    Raises:
        ConfigError: a name is unknown, or no weight is left to train.

    Example:
        >>> frozen_weights(ModelConfig(), ["embedding", "logits/bias"])
        ['embedding/embeddings', 'logits/bias']
    """
    weights = [*weight_shapes(config, vocab_size=0)]
    layers = dict.fromkeys(name.partition("/")[0] for name in weights)
    for name in freeze:
        if name not in layers and name not in weights:
            raise ConfigError(
                f"`freeze` is {','.join(freeze)}, but the network has no layer {shown(name)}. Its layers are "
                f"{', '.join(layers)}."
            )
    frozen = [name for name in weights if name in freeze or name.partition("/")[0] in freeze]
    if len(frozen) == len(weights):
        raise ConfigError("`freeze` names every layer, so that nothing would be trained. Leave one out.")
    return frozen


def softmax_shapes(config: ModelConfig, vocab_size: int) -> Shapes:
    """Name and shape of each weight of the layer `logits`; a tied layer has no kernel of its own.

    Example:
        >>> softmax_shapes(ModelConfig(units=200, tie_weights=True), vocab_size=5)
        {'bias': (5,)}
    """
    units, size, experts = config.sizes[-1], config.embedding_size, config.num_experts
    if config.softmax == "adaptive":
        return adaptive_shapes(units, config.cutoffs or (), vocab_size)
    shapes: Shapes = {}
    if config.softmax == "mixture":
        shapes |= {"prior_kernel": (units, experts), "latent_kernel": (units, experts * size)}
        shapes["latent_bias"] = (experts * size,)
    if not config.tie_weights:
        kernel = (size if config.softmax == "mixture" else units, vocab_size)
        shapes["kernel"] = kernel[::-1] if config.softmax == "sampled" else kernel
    return shapes | {"bias": (vocab_size,)}
