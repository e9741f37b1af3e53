"""``path("chat/", include("polysync.integrations.django.urls"))``."""

from __future__ import annotations

from django.urls import path, re_path

from polysync.integrations.django import views

__all__ = ["app_name", "urlpatterns"]

app_name = "polysync"

urlpatterns = [
    path("", views.chat, name="chat"),
    path("start", views.start, name="start"),
    path("messages", views.messages, name="messages"),
    path("events", views.events, name="events"),
    path("typing", views.typing, name="typing"),
    path("end", views.end, name="end"),
    path("suggestions", views.suggestions, name="suggestions"),
    path("context", views.context, name="context"),
    re_path(
        r"^(?P<name>chat\.js|chat\.css|page\.css)$", views.static_file, name="static"
    ),
]
