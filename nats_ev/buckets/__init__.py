"""What key-value buckets and object stores have in common: each is a stream with rules.

Files: `bucket` (a bucket's stream and configuration), `settings` (which configurations are the same),
`watch` (watches), `calls` (callbacks of operations), `errors`, `types` (for annotations).
Users see of all this only the errors and types; `kv`
and `object_store` are built on the rest.
"""

from ..imports import show_as_public
from . import errors
from .bucket import COMMON_FIELDS as COMMON_FIELDS
from .bucket import Bucket as Bucket
from .bucket import Config as Config
from .bucket import check_bucket as check_bucket
from .bucket import duplicate_window as duplicate_window
from .calls import call_or_report as call_or_report
from .calls import completion as completion
from .calls import guarded as guarded
from .calls import optional_before_cb as optional_before_cb
from .errors import *  # noqa: F403
from .errors import bucket_error as bucket_error
from .errors import codec_error as codec_error
from .errors import recast as recast
from .errors import transfer_error as transfer_error
from .types import *  # noqa: F403
from .watch import Reader as Reader
from .watch import Watch as Watch
from .watch import WatchEngine as WatchEngine
from .watch import collect as collect

__all__: list[str] = []
__all__ += errors.__all__

show_as_public(globals(), __all__)
