"""Scores as text: options -> tables, the formats of KenLM and SRILM, the summary -> writer."""
