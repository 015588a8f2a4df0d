"""Rows -> tokens, or pixels."""
