"""Management commands: ``polysync_chat`` and ``polysync_check``."""
