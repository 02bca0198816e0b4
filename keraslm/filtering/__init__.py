"""A corpus of documents, filtered or divided by perplexity, as it is read.

JSON Lines, tables or plain text come in, as files or as a stream; the documents that fit the criteria go out, with all
their fields and their scores.
"""
