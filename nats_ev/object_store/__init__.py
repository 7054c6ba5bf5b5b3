"""Object stores (ADR-20): content of any size, in parts. `ObjectStore`.

Files: `store` (`ObjectStore`, the operations), `infos` (reading and changing what is known of an object),
`meta` (the JSON of that), `links`, `bucket` (the store's configuration and state), `upload` with `sources`,
`download` with `sinks`, `watch`.
"""

from ..imports import show_as_public
from .download import Download
from .store import ObjectStore
from .upload import Upload
from .watch import ObjectWatch

__all__: list[str] = ["Download", "ObjectStore", "ObjectWatch", "Upload"]

show_as_public(globals(), __all__)
