"""The pipe put together."""
