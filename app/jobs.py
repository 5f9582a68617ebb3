"""All jobs in one place: each command, and each script, calls one of these functions."""

from __future__ import annotations

from app.audit_job import AuditOutcome, audit_job
from app.audit_settings import AuditRequest
from app.evaluate_job import EvaluateOutcome, evaluate_job
from app.export_job import ExportOutcome, export_job
from app.import_job import ImportOutcome, ImportRequest, import_job
from app.pick_job import PickOutcome, pick_job
from app.profile_job import ProfileOutcome, ProfileRequest, profile_job
from app.quickstart_job import QuickstartOutcome, QuickstartRequest, quickstart_job
from app.report_job import ReportOutcome, report_job
from app.search_job import SearchOutcome, SearchRequest, search_job
from app.train_job import TrainOutcome, TrainRequest, train_job

__all__ = [
    "AuditOutcome",
    "AuditRequest",
    "EvaluateOutcome",
    "ExportOutcome",
    "ImportOutcome",
    "ImportRequest",
    "PickOutcome",
    "ProfileOutcome",
    "ProfileRequest",
    "QuickstartOutcome",
    "QuickstartRequest",
    "ReportOutcome",
    "SearchOutcome",
    "SearchRequest",
    "TrainOutcome",
    "TrainRequest",
    "audit_job",
    "evaluate_job",
    "export_job",
    "import_job",
    "pick_job",
    "profile_job",
    "quickstart_job",
    "report_job",
    "search_job",
    "train_job",
]
