"""Conversations across processes: what to save of one, and where."""
