"""Pipelines over many files, for whatever runs them: which inputs there are, what one job does, and what was done already.

``framerail.ray`` runs jobs on Ray. Nothing here schedules anything.
"""

from .folders import Folder, folder
from .inputs import Input, list_inputs
from .job import Task, run_task
from .manifest import Manifest
from .report import JobRow, Report
from .template import Template

__all__ = ["Folder", "Input", "JobRow", "Manifest", "Report", "Task", "Template", "folder", "list_inputs", "run_task"]
