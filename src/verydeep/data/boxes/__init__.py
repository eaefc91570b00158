"""Boxes beside the images of a set."""
