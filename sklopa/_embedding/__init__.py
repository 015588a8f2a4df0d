"""Tokens -> instance embedding (B, E)."""
