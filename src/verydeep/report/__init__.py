"""Pages and pictures, made of rows and images that are handed in as data."""
