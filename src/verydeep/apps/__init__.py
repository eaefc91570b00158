"""What people run: the command line and what is behind its verbs."""
