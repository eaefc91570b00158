"""What starts a training."""
