"""What is learned: y -> targets, loss and score, and outputs -> y."""
