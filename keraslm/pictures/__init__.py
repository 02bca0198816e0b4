"""Surprisal as pictures: one HTML page (`page`) or one PNG (`plot`).

Scored lines come in one by one; a file that needs nothing else goes out.
"""
