"""Scores as text: tables, JSON lines, the formats of KenLM and SRILM, and summaries.

Scored lines and `ScoreOptions` come in; lines of output go out.
"""
