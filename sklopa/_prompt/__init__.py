"""Instance embedding -> soft prompt (B, P, D). Pure mathematics."""

# How the task prompt Z_S and the instance part Z_I = U V^T may meet; see `low_rank`.
GATES = ("sigmoid", "add", "max", "concat", "instance")
