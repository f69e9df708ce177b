"""The command line: above all else, so it imports inside functions."""
