"""`Context`: the settings of one file, and the options of a client that they stand for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from ..auth import check_creds_text
from ..errors import BadOptionsError, BadSubjectError
from .errors import ContextError, ContextNotFoundError
from .files import (
    kind_of,
    not_found,
    path_of,
    read_object,
    read_selection,
    remove,
    selection,
    stored_names,
    write,
)
from .references import RESOLVERS, Unresolved, ask_nsc, expanded, read_file, scheme_of

# All fields, in the order in which the official tools write them, with the value of one that is not set.
_FIELDS: dict[str, Any] = {
    "description": "",
    "url": "",
    "socks_proxy": "",
    "token": "",
    "user": "",
    "password": "",
    "creds": "",
    "nkey": "",
    "cert": "",
    "key": "",
    "ca": "",
    "nsc": "",
    "jetstream_domain": "",
    "jetstream_api_prefix": "",
    "jetstream_event_prefix": "",
    "inbox_prefix": "",
    "user_jwt": "",
    "user_seed": "",
    "color_scheme": "",
    "tls_first": False,
    "windows_cert_store": "",
    "windows_cert_match_by": "",
    "windows_cert_match": "",
    "windows_ca_certs_match": None,
}
Names = list[str]  # inside the class, list is a method
LOGIN = ("user", "password")
IDENTITY = (*LOGIN, "token", "creds", "nkey", "nsc", "user_jwt", "user_seed")
_SECRET = ("password", "token", "user_jwt", "user_seed")
# Fields that may hold a reference, of which only some are secrets.
_REFERENCES = ("creds", "nkey")
_TLS_FILES = {"cert": "tls_cert_file", "key": "tls_key_file", "ca": "tls_ca_file"}
# The field that an option comes from, where the names differ.
_FIELD_OF = {
    "servers": "url",
    "creds_file": "creds",
    "user_credential_bytes": "creds",
    "nkey_seed_file": "nkey",
    "nkey_seed": "user_seed",
    "jwt": "user_jwt",
    "proxy": "socks_proxy",
    **{option: field for field, option in _TLS_FILES.items()},
}
# Where it comes from if that field is not set.
_ELSE = {"creds": "nsc", "user_seed": "nkey"}
_DEFAULT_URL = "nats://127.0.0.1:4222"

# Options that say who the client is. One of them in a call replaces what the context says about it.
_CREDENTIALS = {
    "user",
    "password",
    "token",
    "user_cb",
    "token_cb",
    "creds_file",
    "user_credential_bytes",
    "nkey_seed",
    "nkey_seed_file",
    "nkey",
    "jwt",
    "jwt_cb",
    "signature_cb",
}
# Other fields, and the options of a call that replace them.
_OWN_CERT = {"tls_context", "tls_cert_file", "tls_cert", "tls_cert_cb"}
_REPLACED_BY = {
    "url": {"servers", "host", "path"},
    "ca": {"tls_context", "tls_ca_file", "tls_ca", "root_cas_cb"},
    "cert": _OWN_CERT,
    "key": _OWN_CERT,
    "inbox_prefix": {"inbox_prefix"},
    "socks_proxy": {"proxy", "dial"},
}


class Context:
    """A set of settings: ``fields`` has them by their names in the file.

    Args:
        name: under which `save` stores it; "" if it has none.
        fields: of the file: url (several with commas between), user, password, token, creds, nkey, user_jwt,
            user_seed, nsc, cert, key, ca, tls_first, inbox_prefix, jetstream_domain, jetstream_api_prefix,
            jetstream_event_prefix, description, …

    Raises:
        ContextError: a field has a wrong type.
    """

    def __init__(self, name: str = "", **fields: Any) -> None:
        self.name = name
        self.path = ""
        self.fields: dict[str, Any] = fields
        self._labels: dict[str, str] = {}  # of fields that come from elsewhere, such as a variable
        self._check_types()

    def __repr__(self) -> str:
        shown = f"{self.name!r} " if self.name else ""
        return f"<{type(self).__name__} {shown}{self.redacted()['url'] or _DEFAULT_URL}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Context) or self.name != other.name:
            return False
        return {**_FIELDS, **self.fields} == {**_FIELDS, **other.fields}

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, field: str) -> Any:
        """Return a field; one that is not set has the value of the official tools: "", False or None."""
        found = self.fields.get(field)
        return _FIELDS[field] if found is None and field in _FIELDS else found

    # Files.

    @classmethod
    def load(cls, name: str | os.PathLike[str] | None = None) -> Context:
        """Return a context from its file.

        Args:
            name: of a context, or a file: a path object, an absolute path, or the name of a file that exists
                and ends in .json. None: the one in ``$NATS_CONTEXT``, else the selected one.

        Raises:
            ContextNotFoundError: it does not exist, or none is selected.
            ContextError: the name is malformed; the file can't be read or is broken.
        """
        if name is None:
            name = os.environ.get("NATS_CONTEXT") or cls.selected()
            if name is None:
                where = selection()
                raise ContextNotFoundError(
                    f"no context is selected: {where} names none", path=where
                )
        if not isinstance(name, (str, os.PathLike)):
            raise TypeError(f"name must be str or a path, not {type(name).__name__}")
        is_file = not isinstance(name, str) or os.path.isabs(name)
        if is_file or (str(name).endswith(".json") and os.path.isfile(name)):
            path = os.path.expanduser(os.fspath(name))
            found = cls(os.path.basename(path).removesuffix(".json"))
        else:
            found = cls(str(name))
            path = path_of(str(name))
        found.path = path
        found.fields = read_object(path, found.name)
        found._check_types()
        return found

    def save(self, name: str | None = None) -> str:
        """Write the context to its file, atomically and readable by its owner only; return the path.

        A context that was loaded from a file of its own and is not renamed goes back there.

        Args:
            name: a new name; None: the one that it has.

        Raises:
            ContextError: the name or a field is malformed, there are several kinds of credentials, or the
                file can't be written.
        """
        if name is not None and name != self.name:
            self.name, self.path = name, ""
        path = self.path or path_of(self.name)
        self._check_types()
        self._check_one_identity(path)
        known = {field: self[field] for field in _FIELDS}
        rest = {field: value for field, value in self.fields.items() if field not in _FIELDS}
        try:
            text = json.dumps({**known, **rest}, indent=2, ensure_ascii=False)
        except (TypeError, ValueError) as exc:
            raise ContextError(f"{path}: not JSON: {exc}", path=path) from None
        write(path, text)
        self.path = path
        return path

    @classmethod
    def select(cls, name: str | None) -> None:
        """Select a context, for all programs that name none. `previous` is then the one before.

        Args:
            name: None: no context is selected any more.

        Raises:
            ContextNotFoundError: it does not exist.
            ContextError: the name is malformed, or a file can't be written.
        """
        if name is not None:
            path = path_of(name)
            if not os.path.exists(path):
                raise not_found(name, path)
        before = cls.selected()
        if before is not None:
            write(selection("previous-context.txt"), before)
        if name is not None:
            write(selection(), name)
        else:
            remove(selection())

    @classmethod
    def delete(cls, name: str) -> None:
        """Delete a context's file.

        Raises:
            ContextNotFoundError: it does not exist.
            ContextError: it is selected and not the only one; or the file can't be deleted.
        """
        path = path_of(name)
        if not os.path.exists(path):
            raise not_found(name, path)
        active = cls.selected() == name
        if active and len(stored_names()) > 1:
            raise ContextError(f"context {name!r} is selected: select another one first", path=path)
        remove(path)
        if active:
            cls.select(None)

    @classmethod
    def list(cls) -> Names:
        """Return the names of all contexts, sorted."""
        return stored_names()

    @classmethod
    def selected(cls) -> str | None:
        """Return the name of the selected context; None: none is."""
        return read_selection("context.txt")

    @classmethod
    def previous(cls) -> str | None:
        """Return the name of the context that was selected before; None: none was."""
        return read_selection("previous-context.txt")

    # Use.

    def redacted(self) -> dict[str, Any]:
        """Return all fields for showing: "<redacted>" stands for each secret, also for those in a URL."""
        shown = {**_FIELDS, **self.fields}
        for field in _SECRET:
            if shown[field]:
                shown[field] = "<redacted>"
        for field in _REFERENCES:
            if scheme_of(str(shown[field] or "")) == "data":
                shown[field] = "<redacted>"
        for field in ("url", "socks_proxy"):
            urls = str(shown[field] or "").split(",")
            shown[field] = ",".join(map(_without_user, urls))
        return shown

    def options(self, **given: Any) -> dict[str, Any]:
        """Return the options of `Nats` that the context stands for, and those given; they may hold secrets.

        ``~``, ``$NAME`` and ``${NAME}`` in paths are expanded. A value may refer to another place:
        ``file://``, ``env://NAME``, ``data:;base64,…``, ``nsc://…`` and ``op://…``; for the last two,
        and for the field nsc, the tools nsc and op are run. Of several identities the first counts, as
        for the official tools: user, creds, nkey, user_jwt; the token is sent besides.

        Args:
            given: options that win over the context's. A credential among them replaces all of the context's,
                but user and password may come one from each; a server replaces all servers.

        Raises:
            ContextError: a file is missing; a tool is missing or fails; or the client does not support what
                a field asks for.
        """
        made = self.without(given)._options()
        if any(given.get(name) is not None for name in _REPLACED_BY["url"]):
            del made["servers"]
        return {**made, **given}

    def without(self, given: Mapping[str, Any]) -> Context:
        """Return the context without the fields that given options of `Nats` replace."""
        names = {name for name, value in given.items() if value is not None}
        out = {field for field, others in _REPLACED_BY.items() if names & others}
        credentials = names & _CREDENTIALS
        if credentials and not (credentials <= set(LOGIN) and self["user"]):
            out.update(IDENTITY)
        left = Context(self.name)
        left.fields = {field: value for field, value in self.fields.items() if field not in out}
        left.path, left._labels = self.path, self._labels
        return left

    def _options(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        profile = self._nsc_profile()
        urls = self["url"] or profile.get("url") or _DEFAULT_URL
        made["servers"] = [url for each in urls.split(",") if (url := each.strip())]
        made.update(self._identity(profile.get("creds", "")))
        for field, option in _TLS_FILES.items():
            if self[field]:
                made[option] = self._file(field, self[field])
        if self["key"] and not self["cert"]:
            raise self._error("key", "it needs cert")
        if self["tls_first"]:
            made["tls_handshake_first"] = True
        if self["inbox_prefix"]:
            made["inbox_prefix"] = self["inbox_prefix"]
        if self["socks_proxy"]:
            made["proxy"] = self["socks_proxy"]
        for field in _FIELDS:
            if field.startswith("windows_") and self[field]:
                raise self._error(field, "this client does not support Windows' certificate stores")
        return made

    def jetstream_options(self, **given: str) -> dict[str, Any]:
        """Return the options of `JetStream` that the context stands for, and those given.

        Args:
            given: prefix, domain, event_prefix; they win over the context's. A prefix replaces a domain, too,
                and the reverse.

        Raises:
            ContextError: the context has both a domain and a prefix.
        """
        made = {"event_prefix": self["jetstream_event_prefix"]}
        if not given.keys() & {"prefix", "domain"}:
            made["domain"], made["prefix"] = self["jetstream_domain"], self["jetstream_api_prefix"]
            if made["domain"] and made["prefix"]:
                raise self._error(
                    "jetstream_domain", "it and jetstream_api_prefix exclude each other"
                )
        return {**{name: value for name, value in made.items() if value}, **given}

    def blame(
        self, check: Callable[[dict[str, Any]], object], given: Mapping[str, Any] | None = None
    ) -> None:
        """Raise `ContextError` if the context's own options are wrong.

        Args:
            check: raises `BadOptionsError` or `BadSubjectError` for options that are.
            given: options of the call, which replace some.
        """
        given = given or {}
        own = {name: value for name, value in self.options(**given).items() if name not in given}
        for name, value in own.items():
            field = _FIELD_OF.get(name, name)
            if field in _ELSE and not self[field]:
                field = _ELSE[field]
            self.checked(field, check, {name: value})
        self.checked("", check, own)

    def checked(self, field: str, check: Callable[..., object], *args: Any) -> None:
        """Call check, and let its error name the context and a field.

        Args:
            field: "": the error is about several.
            check: raises `BadOptionsError` or `BadSubjectError`.
            args: passed to check.
        """
        try:
            check(*args)
        except ContextError:
            raise
        except (BadOptionsError, BadSubjectError) as exc:
            raise self._error(field, str(exc).removeprefix(f"{field}: ")) from None

    # Inside.

    def _error(self, field: str, why: str) -> ContextError:
        where = self._labels.get(field)
        if where is None:
            where = self.path or self.name or "context"
            where = f"{where}: {field}" if field else where
        return ContextError(f"{where}: {why}", path=self.path, field=field)

    def _check_types(self) -> None:
        for field, empty in _FIELDS.items():
            value = self.fields.get(field)
            if field == "windows_ca_certs_match":
                right = isinstance(value, list) and all(isinstance(each, str) for each in value)
                wanted = "a list of texts"
            elif field == "tls_first":
                right, wanted = isinstance(value, bool), "true or false"
            else:
                right, wanted = isinstance(value, type(empty)), "a text"
            if value is not None and not right:
                raise self._error(field, f"it must be {wanted}, not {kind_of(value)}")

    def _check_one_identity(self, path: str) -> None:
        used = [field for field in ("user", "creds", "nkey", "nsc", "user_jwt") if self[field]]
        if len(used) > 1:
            raise ContextError(
                f"{path}: {' and '.join(used)} exclude each other", path=path, field=used[1]
            )

    def _identity(self, nsc_creds: str) -> dict[str, Any]:
        """Return the options that say who the client is: the first field that is set."""
        made: dict[str, Any] = {}
        if self["user"]:
            made["user"] = self["user"]
            made["password"] = self._literal("password")
        elif self["creds"] or nsc_creds:
            made.update(self._creds(self["creds"] or nsc_creds))
        elif self["nkey"]:
            made.update(self._nkey())
        elif self["user_jwt"]:
            made["jwt"] = self._literal("user_jwt")
            if self["user_seed"]:
                made["nkey_seed"] = self._literal("user_seed")
        if self["token"]:
            made["token"] = self._literal("token")
        return made

    def _creds(self, reference: str) -> dict[str, Any]:
        if scheme_of(reference) in ("", "file"):
            return {"creds_file": self._file("creds" if self["creds"] else "nsc", reference)}
        content = self._resolve("creds", reference)
        try:
            check_creds_text(content, self._labels.get("creds", f"{self.path}: creds"))
        except BadOptionsError as exc:
            raise ContextError(str(exc), path=self.path, field="creds") from None
        return {"user_credential_bytes": content}

    def _nkey(self) -> dict[str, Any]:
        if scheme_of(self["nkey"]) in ("", "file"):
            return {"nkey_seed_file": self._file("nkey", self["nkey"])}
        return {"nkey_seed": self._resolve("nkey", self["nkey"])}

    def _literal(self, field: str) -> str:
        """Return the value of a field, or of what it refers to."""
        value: str = self[field]
        if scheme_of(value) not in RESOLVERS:
            return value
        return self._resolve(field, value).decode("utf-8", "surrogateescape").rstrip("\r\n")

    def _resolve(self, field: str, reference: str) -> bytes:
        resolver = RESOLVERS.get(scheme_of(reference) or "file")
        if resolver is None:
            raise self._error(
                field, f"references of the kind {scheme_of(reference)}: are not supported"
            )
        try:
            return resolver(reference)
        except Unresolved as exc:
            raise self._error(field, str(exc)) from None

    def _file(self, field: str, reference: str) -> str:
        """Return the path of a file that can be read."""
        if scheme_of(reference) not in ("", "file"):
            raise self._error(field, "it must be the path of a file")
        path = expanded(reference)
        try:
            read_file(path)
        except Unresolved as exc:
            raise self._error(field, str(exc)) from None
        return path

    def _nsc_profile(self) -> dict[str, str]:
        if not self["nsc"]:
            return {}
        try:
            return ask_nsc(self["nsc"])
        except Unresolved as exc:
            raise self._error("nsc", str(exc)) from None


def context_of(
    names: tuple[str | os.PathLike[str] | Context | None, ...], options: dict[str, Any]
) -> Context:
    """Return the context that a call of ``from_context`` asks for.

    Args:
        names: the arguments by position, one at most.
        options: the arguments by keyword. Without names, the option name is taken out of them.

    Raises:
        ContextError: as `Context.load`.
    """
    if len(names) > 1:
        raise TypeError(f"from_context takes one context by position, not {len(names)}")
    name = names[0] if names else options.pop("name", None)
    return name if isinstance(name, Context) else Context.load(name)


def _without_user(url: str) -> str:
    """Return a URL for showing: without its user, password or token."""
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        scheme, rest = "", url
    _, at, address = rest.rpartition("@")
    if at:
        return f"{scheme}{slashes}<redacted>@{address}"
    # A comma in a password has cut the URL: what is no port is a part of the password.
    host, _, port = rest.partition("/")[0].rpartition(":")
    whole = not host or port.isdigit() or port.endswith("]")
    return url if whole else f"{scheme}{slashes}{host}:<redacted>"
