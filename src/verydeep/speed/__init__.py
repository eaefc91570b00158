"""What makes the nets fast."""
