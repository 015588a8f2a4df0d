"""Description -> live model. The only door to a model hub, and to weights."""
