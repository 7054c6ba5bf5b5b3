"""What is wrong with claims: the checks of nats-io/jwt, which servers make too.

A blocking issue makes servers refuse the JWT. A time check tells that it is not good now. The others are
warnings.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from .errors import ValidationIssue
from .keys import kind_of, shown
from .shapes import JETSTREAM_LIMITS

ANY = "*"
# Returns (issuer, subject, nats) of an activation token; None if it is none.
ReadToken = Callable[[str], tuple[str, str, dict[str, Any]] | None]
_MAX_INFO = 8 * 1024
_OF_DAY = re.compile(r"([01]?\d|2[0-3]):[0-5]\d:[0-5]\d", re.ASCII)
_VERSION = re.compile(r"\d{1,9}\.\d{1,9}\.\d{1,9}", re.ASCII)


class Issues(list[ValidationIssue]):
    """What was found so far."""

    def error(self, description: str) -> None:
        """Add a blocking issue."""
        self.append(ValidationIssue(description))

    def warning(self, description: str) -> None:
        """Add an issue that blocks nothing."""
        self.append(ValidationIssue(description, blocking=False))

    def need_key(self, key: str, kind: str, what: str) -> None:
        """Add a blocking issue unless key is a public key of a kind."""
        if kind_of(key) != kind:
            article = "an" if kind[0] in "aou" and kind != "user" else "a"
            self.error(f"{what} is not {article} {kind} public key: {shown(key)}")


def now() -> int:
    """Return the time in seconds since 1970, which JWTs are dated in."""
    return int(time.time())


def check_times(issues: Issues, expires: int, not_before: int) -> None:
    """Check that claims are good now."""
    moment = now()
    if 0 < expires < moment:
        issues.append(ValidationIssue("claim is expired", blocking=False, time_check=True))
    if not_before > max(moment, 0):
        issues.append(ValidationIssue("claim is not yet valid", blocking=False, time_check=True))


def check_subject(issues: Issues, subject: str) -> None:
    """Check a subject, which may have wildcards."""
    if not subject:
        issues.error("subject cannot be empty")
        return
    shown = repr(subject[:200])
    if re.search(r"[ \t\r\n\f]", subject):
        issues.error(f"subject {shown} cannot have spaces")
    if subject[0] == "." or subject[-1] == ".":
        issues.error(f"subject {shown} cannot start or end with a `.`")
    if ".." in subject:
        issues.error(f"subject {shown} cannot contain consecutive `.`")


def has_wildcards(subject: str) -> bool:
    """Return whether a subject has a token that is a wildcard."""
    tokens = subject.split(".")
    return "*" in tokens or tokens[-1] == ">"


def is_contained_in(subject: str, other: str) -> bool:
    """Return whether all that a subject matches is matched by another one too."""
    mine, others = subject.split("."), other.split(".")
    if len(mine) < len(others) or (len(mine) > len(others) and others[-1] != ">"):
        return False
    for i, token in enumerate(others):
        if i == len(others) - 1 and token == ">":
            return True
        if token not in (mine[i], "*"):
            return False
    return True


def check_permissions(issues: Issues, permissions: dict[str, Any]) -> None:
    """Check what a user, or by default each user of an account, may publish and subscribe to."""
    for way, may_queue in (("sub", True), ("pub", False)):
        permission = permissions.get(way, {})
        for subject in [*permission.get("allow", ()), *permission.get("deny", ())]:
            tokens = subject.split(" ")
            shown = repr(subject[:200])
            if len(tokens) > 2:
                issues.error(f"permission subject {shown} contains too many spaces")
                continue
            for token in tokens:
                check_subject(issues, token)
            if len(tokens) == 2 and not may_queue:
                issues.error(f"permission subject {shown} is not allowed to contain queue")


def check_user_limits(issues: Issues, limits: dict[str, Any]) -> None:
    """Check networks, hours and time zone."""
    for network in limits.get("src", ()):
        try:
            if "/" not in network:
                raise ValueError("an address alone")
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            issues.error(f"invalid cidr {network[:60]!r} in user src limits")
    for hours in limits.get("times", ()):
        for end in ("start", "end"):
            if not _OF_DAY.fullmatch(hours.get(end, "")):
                issues.error(f"{end} in time range is invalid: {hours.get(end, '')[:60]!r}")
    zone = limits.get("times_location", "")
    if zone and not _is_time_zone(zone):
        issues.error(f"could not parse iana time zone by name: {zone[:60]!r}")


def _is_time_zone(name: str) -> bool:
    """Return whether a time zone exists. A machine without the zones' data can't tell: then it does."""
    if name in ("UTC", "Local"):
        return True
    import zoneinfo

    try:
        known = zoneinfo.available_timezones()
        return not known or name in known
    except OSError:
        return True


def check_user(issues: Issues, user: dict[str, Any]) -> None:
    """Check the claims of a user."""
    check_permissions(issues, user)
    check_user_limits(issues, user)
    if account := user.get("issuer_account"):
        issues.need_key(account, "account", "issuer_account")


def check_operator(issues: Issues, operator: dict[str, Any]) -> None:
    """Check the claims of an operator."""
    if (server := operator.get("account_server_url")) and not _scheme_of(server):
        issues.error(f"account server url {server[:200]!r} requires a protocol")
    for url in operator.get("operator_service_urls", ()):
        _check_service_url(issues, url)
    for key in operator.get("signing_keys", ()):
        issues.need_key(key, "operator", "signing key")
    if account := operator.get("system_account"):
        issues.need_key(account, "account", "system_account")
    version = operator.get("assert_server_version")
    if version and not _VERSION.fullmatch(version):
        issues.error("assert_server_version must be of the form <major>.<minor>.<update>")


def _scheme_of(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:
        return ""


def _check_service_url(issues: Issues, url: str) -> None:
    if not url:
        return
    try:
        parts = urlsplit(url)
    except ValueError:
        issues.error("an operator service url can't be parsed")
        return
    if "@" in parts.netloc:
        issues.error("an operator service url has credentials, which are not supported")
    elif parts.path:
        issues.error(f"operator service url {url[:200]!r} - paths are not supported")
    elif parts.scheme not in ("nats", "tls", "ws", "wss"):
        issues.error(
            f"operator service url {url[:200]!r} - only nats, tls, ws and wss are supported"
        )


def check_info(issues: Issues, info: dict[str, Any]) -> None:
    """Check a description and an info_url."""
    if len(info.get("description", "").encode()) > _MAX_INFO:
        issues.error("description is too long")
    url = info.get("info_url", "")
    if len(url) > _MAX_INFO:
        issues.error("info_url is too long")
    if not url:
        return
    try:
        parts = urlsplit(url)
        complete = bool(parts.scheme and parts.hostname)
    except ValueError:
        complete = False
    if not complete:
        issues.error("error parsing info_url: no hostname or scheme")


def check_activation(issues: Issues, activation: dict[str, Any]) -> None:
    """Check the claims of an activation token but for its times."""
    if activation.get("kind") not in ("stream", "service"):
        issues.error(f"invalid import type: {activation.get('kind', '')[:60]!r}")
    check_subject(issues, activation.get("subject", ""))
    if account := activation.get("issuer_account"):
        issues.need_key(account, "account", "issuer_account")


def check_request(issues: Issues, request: dict[str, Any]) -> None:
    """Check what a server asks an auth callout."""
    issues.need_key(request.get("user_nkey", ""), "user", "user_nkey")


def check_response(issues: Issues, response: dict[str, Any], subject: str, audience: str) -> None:
    """Check what an auth callout answers."""
    issues.need_key(subject, "user", "subject")
    issues.need_key(audience, "server", "audience")
    if bool(response.get("jwt")) == bool(response.get("error")):
        issues.error("either jwt or error is required")
    if account := response.get("issuer_account"):
        issues.need_key(account, "account", "issuer_account")


# Accounts.


def check_account(
    issues: Issues, account: dict[str, Any], subject: str, issuer_kind: str | None, read: ReadToken
) -> None:
    """Check the claims of an account.

    Args:
        issues: to add to.
        account: the claims' field nats.
        subject: the account's public key.
        issuer_kind: of the key that has signed; None if it is not known yet.
        read: decodes an activation token.
    """
    limits = account.get("limits", {})
    _check_imports(issues, account.get("imports", []), subject, read)
    _check_exports(issues, account.get("exports", []))
    _check_limits(issues, limits)
    check_permissions(issues, account.get("default_permissions", {}))
    for source, targets in account.get("mappings", {}).items():
        _check_mapping(issues, source, targets)
    _check_callout(issues, account.get("authorization", {}))
    if "trace" in account:
        _check_trace(issues, account["trace"])
    _check_counts(issues, account, limits)
    _check_signing_keys(issues, account.get("signing_keys", []))
    check_info(issues, account)
    traffic = account.get("cluster_traffic", "")
    if traffic not in ("", "system", "owner"):
        issues.error(f"unknown cluster traffic option: {traffic[:60]!r}")
    if issuer_kind == "account" and any(limits.values()):
        issues.warning("self-signed account JWTs shouldn't contain operator limits")


def _check_limits(issues: Issues, limits: dict[str, Any]) -> None:
    tiers = limits.get("tiered_limits", {})
    if tiers and any(limits.get(name) for name in JETSTREAM_LIMITS):
        issues.error("JetStream limits and tiered JetStream limits are mutually exclusive")
    if "" in tiers:
        issues.error('tiered JetStream limits can not contain a blank "" tier name')


def _check_counts(issues: Issues, account: dict[str, Any], limits: dict[str, Any]) -> None:
    for name in ("imports", "exports"):
        allowed, used = limits.get(name, 0), len(account.get(name, ()))
        # For imports each negative number is no limit, for exports -1 alone; the server sees it so.
        if allowed != -1 and used > allowed:
            issues.error(f"the account contains more {name} than allowed by the operator")
    if limits.get("exports", 0) != -1 and not limits.get("wildcards"):
        for export in account.get("exports", ()):
            if has_wildcards(export.get("subject", "")):
                issues.error(
                    "the account contains wildcard exports that are not allowed by the operator"
                )


def _check_mapping(issues: Issues, source: str, targets: list[dict[str, Any]]) -> None:
    check_subject(issues, source)
    totals: dict[str, int] = {}
    for target in targets:
        check_subject(issues, target.get("subject", ""))
        weight = target.get("weight") or 100
        if not 0 <= weight <= 100:
            issues.error(f"mapping {source[:200]!r} has a weight {weight} that exceeds 100")
        cluster = target.get("cluster", "")
        totals[cluster] = totals.get(cluster, 0) + weight
    for cluster, total in totals.items():
        if total > 100:
            where = f" in cluster {cluster[:60]!r}" if cluster else ""
            issues.error(f"mapping {source[:200]!r}{where} exceeds 100% in all")


def _check_callout(issues: Issues, callout: dict[str, Any]) -> None:
    users, accounts = callout.get("auth_users", []), callout.get("allowed_accounts", [])
    if accounts and not users:
        issues.error("external authorization cannot have accounts without users specified")
    for user in users:
        issues.need_key(user, "user", "auth_users")
    for account in accounts:
        if account == ANY and len(accounts) > 1:
            issues.error(f"allowed_accounts can only be a list of accounts or {ANY!r}")
        elif account != ANY:
            issues.need_key(account, "account", "allowed_accounts")
    if xkey := callout.get("xkey"):
        issues.need_key(xkey, "curve", "xkey")


def _check_trace(issues: Issues, trace: dict[str, Any]) -> None:
    dest = trace.get("dest", "")
    check_subject(issues, dest)
    if has_wildcards(dest):
        issues.error(f"the account's trace dest {dest[:200]!r} is not a valid publish subject")
    if not 0 <= trace.get("sampling", 0) <= 100:
        issues.error("the account's trace sampling is not in the range from 1 to 100")


def _check_signing_keys(issues: Issues, keys: list[Any]) -> None:
    for key in keys:
        if isinstance(key, str):
            issues.need_key(key, "account", "signing key")
            continue
        if key.get("kind") != "user_scope":
            issues.error(f"unknown signing key scope {key.get('kind', '')[:60]!r}")
        issues.need_key(key.get("key", ""), "account", "signing key")
        template = key.get("template", {})
        found = Issues()
        # Templates may have {{…}}, with blanks in them.
        if "}}" not in repr(template).partition("{{")[2]:
            check_permissions(found, template)
        check_user_limits(found, template)
        for issue in found:  # servers take the account, but no user of this key
            issues.warning(f"template of signing key: {issue.description}")


# Exports.


def _check_exports(issues: Issues, exports: list[dict[str, Any]]) -> None:
    for export in exports:
        _check_export(issues, export)
    for service in (True, False):
        subjects = [
            each.get("subject", "")
            for each in exports
            if (each.get("type") == "service") == service
        ]
        kind = "service" if service else "stream"
        times = Counter(subjects)
        wider = {subject: subject for subject, count in times.items() if count > 1}
        for other in times:
            if "*" in other or ">" in other:  # the others contain themselves alone
                inside = (s for s in times if s != other and is_contained_in(s, other))
                if (subject := next(inside, None)) is not None:
                    wider.setdefault(other, subject)
        for other, subject in wider.items():
            issues.error(f"{kind} export subject {other[:200]!r} already exports {subject[:200]!r}")


def _check_export(issues: Issues, export: dict[str, Any]) -> None:
    kind, subject = export.get("type", ""), export.get("subject", "")
    service = kind == "service"
    if kind not in ("service", "stream"):
        issues.error(f"invalid export type: {kind[:60]!r}")
    response = export.get("response_type", "")
    if service and response not in ("", "Singleton", "Stream", "Chunked"):
        issues.error(f"invalid response type for service: {response[:60]!r}")
    if kind == "stream":
        if response:
            issues.error(f"invalid response type for stream: {response[:60]!r}")
        if export.get("allow_trace"):
            issues.error("allow_trace only valid for service export")
    if "service_latency" in export:
        _check_latency(issues, export["service_latency"], service)
    threshold = export.get("response_threshold", 0)
    if threshold < 0:
        issues.error("negative response threshold is invalid")
    if threshold > 0 and not service:
        issues.error("response threshold only valid for services")
    check_subject(issues, subject)
    if export.get("account_token_position", 0):
        _check_token_position(issues, export["account_token_position"], subject)
    check_info(issues, export)


def _check_latency(issues: Issues, latency: dict[str, Any], service: bool) -> None:
    if not service:
        issues.error("latency tracking only permitted for services")
    sampling = latency.get("sampling", "headers")
    by_headers = isinstance(sampling, str) and sampling.lower() == "headers"
    if not by_headers and (isinstance(sampling, str) or not 0 <= sampling <= 100):
        issues.error("sampling percentage needs to be between 1-100")
    results = latency.get("results", "")
    check_subject(issues, results)
    if has_wildcards(results):
        issues.error("results subject can not contain wildcards")


def _check_token_position(issues: Issues, position: int, subject: str) -> None:
    tokens = subject.split(".")
    if not has_wildcards(subject):
        issues.error(
            f"account token position can only be used with wildcard subjects: {subject[:200]!r}"
        )
    elif not 0 < position <= len(tokens):
        issues.error(
            f"account token position {position} exceeds length of subject {subject[:200]!r}"
        )
    elif tokens[position - 1] != "*":
        issues.error(f"account token position {position} must match a * in: {subject[:200]!r}")


# Imports.


def _check_imports(
    issues: Issues, imports: list[dict[str, Any]], account: str, read: ReadToken
) -> None:
    taken: dict[str, list[str]] = {}
    for each in imports:
        if each.get("type") == "service":
            local = each.get("to") or _as_wildcards(each.get("local_subject", ""))
            subject = local or each.get("subject", "")
            others = taken.setdefault(each.get("account", ""), [])
            for other in others:
                if is_contained_in(subject, other) or is_contained_in(other, subject):
                    issues.error(
                        f"overlapping subject namespace for {subject[:200]!r} and {other[:200]!r}"
                    )
            others.append(subject)
        _check_import(issues, each, account, read)


def _as_wildcards(local: str) -> str:
    """Return a renaming subject with * for each reference."""
    return ".".join("*" if _is_reference(token) else token for token in local.split("."))


def _is_reference(token: str) -> bool:
    return re.fullmatch(r"\$[+-]?\d+", token, re.ASCII) is not None


def _check_import(issues: Issues, each: dict[str, Any], account: str, read: ReadToken) -> None:
    kind, subject = each.get("type", ""), each.get("subject", "")
    if kind not in ("service", "stream"):
        issues.error(f"invalid import type: {kind[:60]!r}")
    if kind == "service" and each.get("allow_trace"):
        issues.error("allow_trace only valid for stream import")
    if not each.get("account"):
        issues.error("account to import from is not specified")
    if each.get("to"):
        issues.warning("the field to has been deprecated: use local_subject instead")
    check_subject(issues, subject)
    if local := each.get("local_subject"):
        _check_renaming(issues, local, subject)
        if each.get("to"):
            issues.error("local_subject replaces to")
    if each.get("share") and kind != "service":
        issues.error(f"sharing information is only valid for services: {subject[:200]!r}")
    if token := each.get("token"):
        _check_token(issues, each, token, account, read)


def _check_token(
    issues: Issues, each: dict[str, Any], token: str, account: str, read: ReadToken
) -> None:
    subject = each.get("subject", "")
    shown = repr(subject[:200])
    found = read(token)
    if found is None:
        issues.error(f"import {shown} contains an invalid activation token")
        return
    issuer, importer, activation = found
    exporter = each.get("account", "")
    if exporter not in (issuer, activation.get("issuer_account")):
        issues.error(f"activation token doesn't match account for import {shown}")
    if importer != account:
        issues.error(f"activation token doesn't match account it is being included in, {shown}")
    if activation.get("kind") != each.get("type"):
        issues.error(f"mismatch between the activation token's type and that of import {shown}")
    check_activation(issues, activation)
    if each.get("type") == "service" and each.get("to"):
        subject = each["to"]
    if not is_contained_in(subject, activation.get("subject", "")):
        issues.error(f"activation token's subject doesn't match import {shown}")


def _check_renaming(issues: Issues, local: str, subject: str) -> None:
    check_subject(issues, local)
    if (local.split(".")[-1] == ">") != (subject.split(".")[-1] == ">"):
        issues.error("both, local_subject and subject, need to end or not end in >")
    wildcards = subject.split(".").count("*")
    references = 0
    for token in local.split("."):
        if token == "*":
            references += 1
        elif _is_reference(token):
            if int(token[1:10]) > wildcards:
                issues.error(
                    f"reference {token[:10]} in {local[:200]!r} has no * in {subject[:200]!r}"
                )
            else:
                references += 1
    if references != wildcards:
        issues.error("local_subject does not contain enough * or reference wildcards $[0-9]")
