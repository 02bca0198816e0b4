"""Surprisal as pictures: one HTML page (`page`), a fragment in a notebook (`notebook`) or one PNG (`plot`).

Scored lines come in one by one; a self-contained file goes out.
"""
