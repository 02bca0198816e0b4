"""Many texts into a folder: shards -> records of what is finished -> job -> worker processes or a cluster -> driver."""
