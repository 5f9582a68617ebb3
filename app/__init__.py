"""The application: run directories, jobs, the command line and the explorer."""

from __future__ import annotations
