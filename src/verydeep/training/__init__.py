"""Sections 3.1 and 3.3 of the paper: recipes, the loop, the run folder."""
