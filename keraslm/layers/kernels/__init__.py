"""The operations that training spends its time in, with one implementation per backend.

Tensors come in and tensors go out; `dispatch` states each operation and chooses the implementation.
"""
