"""Object stores (ADR-20): content of any size, in parts. `ObjectStore`.

Files: `store` (`ObjectStore`, the operations), `infos` (reading, watching and changing what is known of an
object), `meta` (the JSON of that), `links`, `renames`, `bucket` (the store's configuration and state),
`upload` with `sources` and `parts`, `download` with `sinks` and `ranges`.
"""

from ..imports import show_as_public
from .download import Download
from .infos import ObjectWatch
from .store import ObjectStore
from .upload import Upload

__all__: list[str] = ["Download", "ObjectStore", "ObjectWatch", "Upload"]

show_as_public(globals(), __all__)
