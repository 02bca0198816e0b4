"""Scores as text: scored lines and `ScoreOptions` come in; tables, JSON lines, the formats of KenLM and SRILM, or a
summary go out.
"""
