"""Many texts scored into a folder, by several processes or a Dask cluster.

Model files, texts and `ScoreOptions` come in; one file of scores per text goes out, with a record from which a later
job sees what is finished. `batches` has texts in memory instead, whose costs come back in order.
"""
