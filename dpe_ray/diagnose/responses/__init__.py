"""Diagnosis from answers that were recorded earlier: read from the logs of evaluation tools, graded by rule, counted.

No model is asked and no picture is read. `reading` finds out what a file is, `documents`, `tables` and `archive` open
it, and one module per tool says where its rows state question, answer and response.
"""
