"""Instance embedding -> soft prompt (B, P, D). Pure mathematics."""
