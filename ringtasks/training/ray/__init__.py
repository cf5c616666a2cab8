"""A Ray cluster over hosts."""
