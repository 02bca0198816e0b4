"""Surprisal as pictures: `page` writes one HTML page, `plot` one PNG; both take scored lines one by one."""
