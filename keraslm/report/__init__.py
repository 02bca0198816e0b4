"""Scores as tables, columns, JSON lines, in the formats of KenLM and SRILM, and summaries.

Scored lines and `ScoreOptions` come in; lines of output or columns go out.
"""
