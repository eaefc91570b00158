"""Appendix B: descriptors of a trained net, a linear classifier on them, and what that is measured by."""
