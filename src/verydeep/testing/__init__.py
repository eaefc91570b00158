"""Testing a net: sections 3.2 and 4 of the paper."""
