"""Who a client is: NKeys (Ed25519) and credentials files.

`nkey_generate_user_seed` and `nkey_public_from_seed` are also methods of `Nats`.
"""

from .creds import Credentials as Credentials
from .creds import check_creds as check_creds
from .creds import read_creds as read_creds
from .nkeys import HAS_NKEY, nkey_generate_user_seed, nkey_public_from_seed
from .nkeys import check_public as check_public
from .nkeys import check_seed as check_seed
from .nkeys import private_key as private_key
from .nkeys import public_key as public_key

__all__ = ["HAS_NKEY", "nkey_generate_user_seed", "nkey_public_from_seed"]
