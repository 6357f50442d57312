"""What to add and how much of it: pure functions, milliseconds."""
