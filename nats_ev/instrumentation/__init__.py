"""Seeing inside a client: what is logged, the trace of the wire, and hooks for metrics and spans.

Files: `log` (the loggers ``nats_ev`` and ``nats_ev.protocol``), `journal` (the events of one client:
logged, counted, remembered), `trace` (frames as lines), `hook` (`Instrumentation`, the base class for
observers), `observed` (the client whose messages pass through them). `otel` and `prometheus` need an extra
each, and are imported by those who use them.
"""

from ..imports import show_as_public
from .hook import Instrumentation as Instrumentation
from .hook import Observers as Observers
from .hook import new_observers as new_observers
from .hook import observers as observers
from .journal import Journal as Journal
from .log import ERROR as ERROR
from .log import WARNING as WARNING
from .log import complain as complain
from .observed import observe as observe

__all__ = ["Instrumentation"]
show_as_public(globals(), __all__)
