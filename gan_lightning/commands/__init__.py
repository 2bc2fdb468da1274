"""The verbs: one a file, each a ``main(args=None)`` that returns the exit code."""
