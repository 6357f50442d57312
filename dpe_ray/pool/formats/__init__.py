"""Labelled sets in the forms in which they are published, one reader each; all give the same rows.

A row has the keys that `dpe_ray.pool.samples` describes. Readers go through their file once, row by row, and hold the
bytes of one row's images at a time.
"""
