"""Rows -> trained network."""
