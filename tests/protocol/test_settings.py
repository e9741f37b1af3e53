"""Tests of `polysync.protocol.settings`."""

from __future__ import annotations

import inspect

import attrs

from polysync import Client
from polysync.protocol.settings import Settings


def test_the_rules_have_the_same_defaults_as_the_client():
    parameters = inspect.signature(Client).parameters
    for field in attrs.fields(Settings):
        assert parameters[field.name].default == field.default
