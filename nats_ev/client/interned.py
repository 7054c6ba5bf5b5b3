"""Subjects that are published to, remembered in C.

Theory of operation
-------------------
To publish to a subject, the C code must check its characters, and the frame begins with ``PUB
<subject> ``. A program uses few subjects again and again, so both are done once: `Outbound.intern`
keeps the checked and framed prefix in C, and `indexes` maps the subject to the number of the prefix.
Then a publish is one look into a dict and one C call with an int. Measured at the design: 131 ns,
against 175 to 208 ns without.

Not every subject is worth it. A program that answers requests or acknowledges messages publishes to a
different subject each time. If these were interned, the table would grow without end, or each one
would displace a subject that is used again. Therefore:

- *Used once.* The first use of a subject only puts it into `_used_once`, and the message is framed
  directly. The second use interns it.
- *Bounds.* Both tables hold at most 4,096 subjects. A full `_used_once` is cleared; so a flood of new
  subjects never touches the interned ones. A full table of interned subjects is cleared, too, in
  Python and in C; an eviction one by one would cost every publish its bookkeeping. It is cleared at
  the end of the turn, and not where it is found to be full: that may be in a signal handler, between
  an interrupted publish's look-up and its C call, which would then use another subject's index.
  Memory is flat over 10 million distinct subjects. The price: with more than 4,096 subjects in turn, a
  publish takes 609 to 1,328 ns of CPU instead of 241 to 335.
- *Subclasses of str* are never interned. One with its own ``__hash__`` and ``__eq__`` would be a key that
  is equal to other subjects, and their messages would go to it.
- *Reply subjects* given as ``reply_to`` are never interned. A publish *to* the reply subject of the
  message that is being handled does not get here at all: `LastReply` recognises it.
"""

from __future__ import annotations

from collections.abc import Callable

from ..protocol import Outbound

# The bound of each of the two tables.
_MOST = 4096


class InternedSubjects:
    """The subjects of one client that are interned, and those that were used once.

    `indexes` maps a subject to the index that `protocol.pub` and `protocol.request` take. It is
    always the same dict, so that `Nats` can keep it.
    """

    __slots__ = ("_barred", "_clearing", "_out", "_soon", "_used_once", "indexes")

    def __init__(self, out: Outbound, soon: Callable[[Callable[[], object]], None]) -> None:
        """Make empty tables. soon calls a function at the end of the turn."""
        self._out = out
        self._soon = soon
        self._clearing = False
        self.indexes: dict[str, int] = {}
        self._used_once: set[str] = set()
        self._barred: set[str] = set()  # may not be published to, said the server

    def bar(self, subject: str) -> None:
        """Intern a subject no longer: the server has refused it."""
        if len(self._barred) >= _MOST:
            self._barred.clear()
        self._barred.add(subject)
        self.indexes.pop(subject, None)

    def remember(self, subject: str) -> int | None:
        """Note the use of a subject that is not interned. Return its index.

        None at its first use, and while the table is full, until the end of the turn; also when it was
        barred. None for what is no str, or of a subclass.

        Raises `BadSubjectError`, at the second use.
        """
        if type(subject) is not str:
            return None
        used_once = self._used_once
        if subject not in used_once:
            if len(used_once) >= _MOST:
                used_once.clear()
            used_once.add(subject)
            return None
        indexes = self.indexes
        if subject in self._barred:
            return None
        if len(indexes) >= _MOST:
            if not self._clearing:
                self._clearing = True
                self._soon(self._clear)
            return None
        index = indexes[subject] = self._out.intern(subject)
        used_once.discard(subject)
        return index

    def _clear(self) -> None:
        self._clearing = False
        self.indexes.clear()
        self._out.forget()
