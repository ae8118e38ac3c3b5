"""Check derivatives, ports, pruned models, and the paper's group files."""
