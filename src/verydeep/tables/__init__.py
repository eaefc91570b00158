"""Tables 3 to 6 for the user's own images."""
