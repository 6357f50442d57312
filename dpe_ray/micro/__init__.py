"""Micro world: a procedural picture world and a small student that a CPU can train."""
