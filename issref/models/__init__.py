"""The networks: plain functions over a flat dictionary of arrays, whose widths are those of the arrays."""
