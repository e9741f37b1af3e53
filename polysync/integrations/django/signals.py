"""Signals: what is said in the conversations of this site, and how they end.

Each is sent at most once for an event, in one of the processes that have the
conversation open, from polysync's callback thread. Receivers may use the database:
connections are closed around them as they are around a request.

Receivers get ``sender`` (the class `polysync.Client`) and

``event``
    the event of `polysync.events`.
``key``
    the conversation's name in the store, as `.conversations.conversation_key` gives
    it. Whoever knows it has the conversation: do not show it.
``client``
    the client; its methods may be called, with a timeout.

A receiver that raises is logged (``django.dispatch``), and the others are still called.
"""

from __future__ import annotations

from django.dispatch import Signal

__all__ = ["message_received", "message_sent", "session_ended"]

#: The agent or the live agent has said something: a whole message, never a chunk.
message_received = Signal()

#: A message of the user has reached the server.
message_sent = Signal()

#: The conversation is over: `polysync.events.SessionEnd`.
session_ended = Signal()
