"""Replicas on TensorFlow: the devices of a `tf.distribute` strategy."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def count() -> int:
    """Number of replicas in a step; 1 outside of it."""
    context = tf.distribute.get_replica_context()
    return int(context.num_replicas_in_sync) if context else 1


def index() -> Any:
    return tf.distribute.get_replica_context().replica_id_in_sync_group


def total(values: list[Any]) -> list[Any]:
    sums = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.stack(values))
    return [sums[place] for place in range(len(values))]


def share_of(loss: Any) -> Any:
    return loss / count()


def reduced(gradients: list[Any]) -> list[Any]:
    """The loss of each replica is divided by their number, so that the sum of the gradients is their mean."""
    return list(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients))
