"""The weights of a recurrent layer, by its cell: names and shapes. No Keras here."""

from __future__ import annotations

from keraslm.config import ModelConfig

Shapes = dict[str, tuple[int, ...]]

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def cell_shapes(config: ModelConfig, inputs: int, units: int) -> Shapes:
    """Name and shape of each weight of one recurrent layer, in the layer's order.

    Args:
        config: which cell.
        inputs: D, size of what enters the layer at a step.
        units: H.

    Example:
        >>> cell_shapes(ModelConfig(cell="gru"), inputs=5, units=2)
        {'kernel': (5, 6), 'recurrent_kernel': (2, 6), 'bias': (2, 6)}
    """
    width = GATES[config.cell] * units
    bias = (2, width) if config.cell == "gru" else (width,)
    shapes: Shapes = {"kernel": (inputs, width), "recurrent_kernel": (units, width), "bias": bias}
    return shapes | mogrifier_shapes(inputs, units, config.mogrifier_rounds, config.mogrifier_rank)


def mogrifier_shapes(inputs: int, units: int, rounds: int, rank: int) -> Shapes:
    """Name and shape of the matrices with which input and h gate each other, round by round.

    Args:
        inputs: D.
        units: H.
        rounds: gates; the odd ones gate the input, the even ones h.
        rank: of each matrix, made of two factors; 0 means one whole matrix.

    Example:
        >>> mogrifier_shapes(5, 2, rounds=2, rank=0)
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
