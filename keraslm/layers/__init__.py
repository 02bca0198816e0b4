"""Keras layers that Keras itself lacks."""
