"""The home page, and the chat below ``/chat/``."""

from __future__ import annotations

from django.urls import include, path
from django.views.generic import TemplateView

urlpatterns = [
    path("", TemplateView.as_view(template_name="home.html")),
    path("chat/", include("polysync.integrations.django.urls")),
]
