"""The application: run directories, jobs, the command line and the explorer."""

from __future__ import annotations

from supernet.own_packages import require_own_packages

# Before a module of this package imports from them.
require_own_packages(("search", "predictors", "hardware"))
