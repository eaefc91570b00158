"""What users get, side by side with what they would use instead of it."""
