"""Checks for issref and for what is built on it: derivatives, conformance vectors, the paper's own group files."""
