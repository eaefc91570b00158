"""Sections 3.2 and 4 of the paper: test protocols, posteriors, error rates."""
