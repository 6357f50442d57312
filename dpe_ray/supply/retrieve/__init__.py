"""Retrieve: samples of a labelled support set whose skills answer to what the student lacks."""
