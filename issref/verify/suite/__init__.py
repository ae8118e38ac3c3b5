"""Conformance vectors, the port that answers them, and the diagnosis of a port that fails them."""
