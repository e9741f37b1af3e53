"""A restaurant's site, with a chat on it."""
