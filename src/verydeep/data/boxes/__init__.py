"""Data with boxes: one reader for each format, one rule for their faults.

Paper: appendix A.
"""
