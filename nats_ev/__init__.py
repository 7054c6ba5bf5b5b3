"""NATS client for Python on a libev loop: callbacks, one thread, the hot path in C.

::

    from nats_ev import Nats, pyev

    nats = Nats(host="127.0.0.1", reconnect=True)
    nats.subscribe("greet.*", lambda subject, payload, reply, headers: print(subject, payload))
    nats.publish("greet.you", "hello")
    pyev.default_loop().start()

- `Nats` is the client; ``help(nats_ev.Nats)`` has its options and methods. `Headers` are message headers,
  `Status` is what a client is doing.
- `JetStream` (streams and consumers) and `Service` (request handlers that can be discovered) take a `Nats`.
- `KV` (key-value buckets) and `ObjectStore` (content of any size) take a `JetStream`.
- All errors are subclasses of `NatsError`; the module `errors` lists them.
- `aio`, `green` and `blocking` have the same client for asyncio, for gevent, and for programs that wait for
  each result.
- `pyev` is the loop; `gevent_loop.GeventLoop` lets a client run on gevent's.

docs/guide.md explains all of it by programs that run.

PYTEST_DONT_REWRITE: by this word pytest accepts that the package is loaded before its plugin for pytest.
"""

from typing import TYPE_CHECKING

from . import auth, client, errors, headers, inquiries, instrumentation, net, status
from ._version import __version__
from .auth import *  # noqa: F403
from .client import *  # noqa: F403
from .errors import *  # noqa: F403
from .headers import *  # noqa: F403
from .imports import show_as_public
from .inquiries import *  # noqa: F403
from .instrumentation import *  # noqa: F403
from .net import *  # noqa: F403
from .status import *  # noqa: F403

__all__ = ["__version__"]
# Spelt with modules' names, because type checkers understand no other form of a computed __all__.
__all__ += auth.__all__
__all__ += client.__all__
__all__ += errors.__all__
__all__ += headers.__all__
__all__ += inquiries.__all__
__all__ += instrumentation.__all__
__all__ += net.__all__
__all__ += status.__all__

show_as_public(globals(), __all__)

# The layers above `Nats` are loaded when one of their names is first used: `__getattr__` (PEP 562).
if TYPE_CHECKING:
    from . import aio as aio
    from . import blocking as blocking
    from . import buckets, contexts, jetstream, kv, object_store, service
    from . import green as green
    from .buckets import *  # noqa: F403
    from .buckets.errors import *  # noqa: F403  mypy does not see them in the line above
    from .contexts import *  # noqa: F403
    from .jetstream import *  # noqa: F403
    from .jetstream.errors import *  # noqa: F403  mypy does not see them in the line above
    from .jetstream.feature_errors import *  # noqa: F403
    from .kv import *  # noqa: F403
    from .object_store import *  # noqa: F403
    from .service import *  # noqa: F403

    __all__ += buckets.__all__
    __all__ += contexts.__all__
    __all__ += jetstream.__all__
    __all__ += kv.__all__
    __all__ += object_store.__all__
    __all__ += service.__all__
else:
    # Each layer and its `__all__`, which can't be asked for without loading the layer; a test compares them.
    _LATER = {
        "buckets": (
            "BadBucketError BadObjectMetaError BucketExistsError BucketNotFoundError "
            "CodecError DigestMismatchError InconsistentReadError InvalidBucketNameError InvalidKeyError "
            "InvalidObjectNameError KeyDeletedError KeyExistsError KeyNotFoundError "
            "ObjectChangedError ObjectDeletedError ObjectExistsError ObjectIncompleteError "
            "ObjectLinkError ObjectNotFoundError ObjectTransferError"
        ),
        "contexts": "Context ContextError ContextNotFoundError",
        "jetstream": (
            "APIError Advisory ApiLevelError AtomicBatch BadPullRequestError "
            "BatchClosedError BatchError Consume ConsumerDeletedError ConsumerExistsError "
            "ConsumerInvalidResetError ConsumerIsPullError ConsumerIsPushError "
            "ConsumerLeadershipChangedError ConsumerNameAlreadyInUseError "
            "ConsumerNotFoundError Convergence CounterError FastBatch Fetch "
            "InvalidAnswerError JetStream JetStreamError JetStreamNotEnabledError "
            "JetStreamNotEnabledForAccountError JsMsg MaxBytesExceededError "
            "MaxRequestExceededError MaxWaitingExceededError MaximumMessagesError "
            "MessageNotFoundError MessageTtlError Metadata MsgAlreadyAckedError "
            "MsgNotAckableError NoHeartbeatError NoMessagesError NoStreamResponseError OrderedConsumer "
            "OrderedFetcher PinIdMismatchError PullStatusError PushSubscription "
            "ReconfigurationInProgressError ResourcesExceededError Restore ScheduleError "
            "SequenceMismatchError ServerShutdownError Snapshot SnapshotError StoredMsg "
            "StreamNameAlreadyInUseError StreamNotFoundError StreamRecreatedError "
            "SubjectOverlapError TooManyRequestsError TooManyStalledMsgsError "
            "WrongLastMsgIdError WrongLastSequenceError WrongStreamError decode_advisory "
            "parse_ack_reply"
        ),
        "kv": "Base64Codec ChainCodec KV KvEntry KvWatch PathCodec",
        "object_store": "Download ObjectStore ObjectWatch Upload",
        "service": ("Discovery Endpoint Group Service ServiceClient ServiceError ServiceRequest"),
    }
    _HOMES = {name: home for home, names in _LATER.items() for name in names.split()}
    __all__ += _HOMES

    # Faces: modules of their own, which load a loop.
    _FACES = ("aio", "blocking", "green")

    def __getattr__(name: str) -> object:
        """Load the layer that defines a public name, or that has this name, or a face."""
        if name in _FACES:
            return __import__(f"{__name__}.{name}", fromlist=("connect",))
        home = name if name in _LATER else _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        layer = __import__(f"{__name__}.{home}", fromlist=("__all__",))
        if name == home:
            return layer  # the import has set the attribute
        for each in layer.__all__:
            globals()[each] = getattr(layer, each)
        return globals()[name]

    def __dir__() -> list[str]:
        """Return all names, those of layers that have not been loaded included."""
        return sorted({*globals(), *_LATER, *_HOMES, *_FACES})
