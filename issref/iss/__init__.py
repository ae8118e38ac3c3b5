"""The idea: axes made of component spaces, and the groups, penalty, proximal step and compaction they define."""
