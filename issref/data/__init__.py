"""Files in: texts, questions and word vectors read from disk, from the cache or from the network."""
