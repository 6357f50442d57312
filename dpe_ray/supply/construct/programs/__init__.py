"""The built-in programs, one a file."""
