"""Appendix A: boxes around objects, predicted by a net."""
