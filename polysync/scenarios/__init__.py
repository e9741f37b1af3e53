"""Scripted conversations: written in YAML or Python, played one or many at a time.

::

    from polysync.scenarios import load_scripts, run_scripts

    report = run_scripts(load_scripts("scripts"), parallel=50, repeat=10)
    assert report.passed, report.failures[0]

``polysync run`` does the same on the command line, with reports in JUnit's XML and in
HTML. ``pip install 'polysync[run]'`` brings what YAML scripts, reports and the live
display need.
"""

from __future__ import annotations

from polysync.scenarios.batch import run_scripts
from polysync.scenarios.cluster import DaskExecutor
from polysync.scenarios.html import html_report
from polysync.scenarios.junit import junit_report
from polysync.scenarios.loading import load_scripts
from polysync.scenarios.mistakes import Mistake, ScriptError
from polysync.scenarios.outcome import Failure, Line, Outcome, Turn
from polysync.scenarios.player import play
from polysync.scenarios.pythonfile import PythonScript, conversation
from polysync.scenarios.report import Report, percentile
from polysync.scenarios.script import Script
from polysync.scenarios.steps import Choose, Expect, Say, Step
from polysync.scenarios.talk import Talk, Unmet

__all__ = [
    "Choose",
    "DaskExecutor",
    "Expect",
    "Failure",
    "Line",
    "Mistake",
    "Outcome",
    "PythonScript",
    "Report",
    "Say",
    "Script",
    "ScriptError",
    "Step",
    "Talk",
    "Turn",
    "Unmet",
    "conversation",
    "html_report",
    "junit_report",
    "load_scripts",
    "percentile",
    "play",
    "run_scripts",
]
