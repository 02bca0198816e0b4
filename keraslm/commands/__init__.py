"""The command line: one file per verb, with its parameters, one call of the library and what is printed.

Flags come in; text goes out on standard output. Heavy imports are inside the functions.
"""
