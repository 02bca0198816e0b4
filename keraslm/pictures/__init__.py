"""Surprisal as pictures: one HTML page (`page`) or one PNG (`plot`).

Scored lines come in one by one; a self-contained file goes out.
"""
