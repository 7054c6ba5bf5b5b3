"""Object stores (ADR-20): content of any size, in parts. `ObjectStore`.

Files: `store` (`ObjectStore`), `infos` (what is known of each object), `links`, `meta` (the JSON of an info),
`bucket` (the stream and its configuration), `upload` with `sources`, `download` with `sinks`, `watch`.
"""

from .download import Download
from .store import ObjectStore
from .upload import Upload
from .watch import ObjectWatch

__all__ = ["Download", "ObjectStore", "ObjectWatch", "Upload"]
