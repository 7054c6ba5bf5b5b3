"""What applications build on streams, buckets and requests, ready to use: each small, on public methods only.

Nothing here is loaded by `nats_ev` itself.
"""

from __future__ import annotations

from ..imports import show_as_public
from .counters import CounterEntry, Counters, CountersNotEnabledError, OutcomeUnknownError
from .schedules import Schedule, ScheduleDelivery, Schedules, schedule_delivery

__all__: list[str] = [
    "CounterEntry",
    "Counters",
    "CountersNotEnabledError",
    "OutcomeUnknownError",
    "Schedule",
    "ScheduleDelivery",
    "Schedules",
    "schedule_delivery",
]

show_as_public(globals(), __all__, "nats_ev.extras")
