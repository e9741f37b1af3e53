"""Template tags: ``{% load polysync %}``."""
