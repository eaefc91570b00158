"""Testing: protocols, posteriors, error rates and what they prove (sections 3.2 and 4)."""
