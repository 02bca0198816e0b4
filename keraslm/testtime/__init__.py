"""Test-time techniques on arrays of NumPy, for `keraslm.evaluation` and `keraslm.scoring`.

Hidden states, tokens and their costs come in; probabilities under the neural cache go out, or the parameters of a
technique with the lowest cost.
"""
