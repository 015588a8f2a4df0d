"""States -> logits, likelihoods or text."""
