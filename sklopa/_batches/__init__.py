"""Rows -> batches, and running them."""
