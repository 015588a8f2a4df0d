"""A fitted estimator <-> files. No pickle."""
