"""Read texts, questions and word vectors from disk, from the cache or from the network."""
