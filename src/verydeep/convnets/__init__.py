"""Section 2 of the paper: the architectures, the net, its weights and the model file."""
