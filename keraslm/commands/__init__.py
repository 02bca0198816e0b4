"""One file a verb: parameters, one call, what is printed. Heavy imports stand inside the functions."""
