"""Intrinsic Sparse Structures: layout, groups, penalty, proximal step and compaction.

The functions know arrays and axes, and nothing of networks. Tutorials: 1, 2, 4, 5 and 6 in tutorials/.
"""
