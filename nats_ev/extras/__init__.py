"""What applications build on streams, buckets and requests, ready to use: each small, on public methods only.

Nothing here is loaded by `nats_ev` itself. Files: `coordination` (locks, elections, semaphores) on `tickets`.
"""

from __future__ import annotations

from ..imports import show_as_public
from .backup import Backup, Transfer
from .backup_files import BackupError

__all__: list[str] = [
    "Backup",
    "BackupError",
    "Transfer",
]
from . import coordination
from .coordination import *  # noqa: F403

__all__: list[str] = []
__all__ += coordination.__all__
from .counters import CounterEntry, Counters, CountersNotEnabledError, OutcomeUnknownError
from .dead_letters import DeadLetter
from .schedules import Schedule, ScheduleDelivery, Schedules, schedule_delivery
from .work_queue import WorkQueue
from .worker import Job, JobRejectedError, JobRetryError, JobTimeoutError, Worker

__all__: list[str] = [
    "CounterEntry",
    "Counters",
    "CountersNotEnabledError",
    "DeadLetter",
    "Job",
    "JobRejectedError",
    "JobRetryError",
    "JobTimeoutError",
    "OutcomeUnknownError",
    "Schedule",
    "ScheduleDelivery",
    "Schedules",
    "WorkQueue",
    "Worker",
    "schedule_delivery",
]

show_as_public(globals(), __all__, "nats_ev.extras")
