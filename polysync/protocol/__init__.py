"""The rules of the Messaging API: no socket, no thread, no clock."""
