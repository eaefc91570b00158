"""What users get, side by side with what they would pick instead.

It stands above all that it measures, which is training and evaluation too and not the engine alone, and below ``apps``,
which parses its options and prints what it gives.
"""
