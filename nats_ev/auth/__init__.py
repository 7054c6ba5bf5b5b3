"""Credentials: NKeys (Ed25519) and .creds files.

`options` checks seeds, public keys and files by these functions when they are given; `connection` reads and
signs with them at each attempt to connect, so that a file that was replaced counts. Users reach two of them
as `Nats.nkey_generate_user_seed` and `Nats.nkey_public_from_seed`.

No error's text has a secret in it. Decoded seeds and the content of files are kept in bytearrays, which
`wipe` overwrites after use; the text of a `bytes` or str would stay in memory.
"""

from .creds import Credentials as Credentials
from .creds import UnreadableFileError
from .creds import check_creds as check_creds
from .creds import check_creds_text as check_creds_text
from .creds import check_seed_file as check_seed_file
from .creds import expiry_of as expiry_of
from .creds import parse_creds as parse_creds
from .creds import read_creds as read_creds
from .creds import read_seed as read_seed
from .creds import undecorated as undecorated
from .nkeys import HAS_NKEY
from .nkeys import check_public as check_public
from .nkeys import check_seed as check_seed
from .nkeys import decode_key as decode_key
from .nkeys import encode_key as encode_key
from .nkeys import nkey_generate_user_seed as nkey_generate_user_seed
from .nkeys import nkey_public_from_seed as nkey_public_from_seed
from .nkeys import private_key as private_key
from .nkeys import public_key as public_key
from .nkeys import wipe as wipe

__all__ = ["HAS_NKEY", "UnreadableFileError"]
