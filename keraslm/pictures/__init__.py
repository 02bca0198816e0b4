"""Surprisal as pictures: scored lines come in one by one; `page` writes one HTML page that needs no other file, and
`plot` one PNG.
"""
