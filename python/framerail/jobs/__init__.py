"""Pipelines over many files, for any scheduler: the inputs, a single job, and the record of finished jobs.

``framerail.ray`` runs jobs on Ray. Nothing here schedules anything.
"""

from .folders import Folder, folder
from .inputs import Input, list_inputs
from .job import Task, run_task
from .manifest import Manifest
from .report import JobRow, Report
from .template import Template

__all__ = ["Folder", "Input", "JobRow", "Manifest", "Report", "Task", "Template", "folder", "list_inputs", "run_task"]
