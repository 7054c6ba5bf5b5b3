"""Who a client is: NKeys (Ed25519) and credentials files.

`Nats.nkey_generate_user_seed` and `Nats.nkey_public_from_seed` are the functions of `nkeys`.
"""

from .creds import check_creds as check_creds
from .creds import read_creds as read_creds
from .nkeys import HAS_NKEY
from .nkeys import check_public as check_public
from .nkeys import check_seed as check_seed
from .nkeys import nkey_generate_user_seed as nkey_generate_user_seed
from .nkeys import nkey_public_from_seed as nkey_public_from_seed
from .nkeys import private_key as private_key
from .nkeys import public_key as public_key

__all__ = ["HAS_NKEY"]
