"""The HTTP server: requests shaped as OpenAI's completions come in, scores, text and a page go out.

One process answers HTTP; worker processes compute. A piece of work is a pure function of its rows, so that a piece
whose process dies is repeated, and an answer does not depend on the requests that share a piece with it.
"""
