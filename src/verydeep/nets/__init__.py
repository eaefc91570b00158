"""The nets: section 2 of the paper."""
