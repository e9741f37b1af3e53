"""The Django app: a chat with a PolyAI agent on a Django site.

::

    INSTALLED_APPS = [..., "polysync.integrations.django"]
    POLYSYNC = {
        "CONNECTOR_TOKEN": os.environ["POLYSYNC_CONNECTOR_TOKEN"],
        "HOST": "https://www.example.com",
        "CACHE": "default",
    }

    urlpatterns = [..., path("chat/", include("polysync.integrations.django.urls"))]

and in a template ``{% load polysync %} … {% polysync_chat %}``. It has no models.

=================  ==========================================================
`.conf`            the setting ``POLYSYNC``: its keys, their defaults
`.checks`          system checks, ``polysync.E001`` …
`.conversations`   the pool of this process, and which conversation is whose
`.cache`           a Django cache, used from polysync's threads
`.signals`         signals for messages and the end of a conversation
`.views`, `.urls`  what the page talks to
`.streaming`       the stream, for WSGI and for ASGI
`.csrf`            refusals of CSRF protection as JSON
=================  ==========================================================

Needs Django, ``markdown-it-py`` and ``nh3``: ``pip install polysync[django]``.
"""

from __future__ import annotations

__all__: list[str] = []
