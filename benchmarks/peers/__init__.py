"""What other libraries reach in the same minutes from the same images: programs, each in an environment of its own."""
