"""Weights of other programs: their files read into our names, shapes and input convention."""
