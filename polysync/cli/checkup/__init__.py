"""What ``polysync doctor`` checks, apart from how it is shown."""

from __future__ import annotations

from polysync.cli.checkup.finding import Finding, Status, Trouble
from polysync.cli.checkup.rounds import STEPS, examine

__all__ = ["STEPS", "Finding", "Status", "Trouble", "examine"]
