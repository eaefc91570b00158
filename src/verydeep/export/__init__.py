"""Nets for other runtimes: a net with what goes before and after it in one file, checked against the net."""
