"""Commands for contexts, named settings that the official tool shares: ``context``."""

from __future__ import annotations

from typing import Any

import click

from nats_ev import Context, ContextError, NatsError

from .client import Settings
from .command import Group, with_settings
from .configs import confirm
from .output import complain, details, note, table, write, write_json

# Option → field of a context.
_FIELDS = {
    "server": "url",
    "user": "user",
    "password": "password",
    "token": "token",
    "creds": "creds",
    "nkey": "nkey",
    "tlscert": "cert",
    "tlskey": "key",
    "tlsca": "ca",
    "tlsfirst": "tls_first",
    "js_domain": "jetstream_domain",
    "js_api_prefix": "jetstream_api_prefix",
    "inbox_prefix": "inbox_prefix",
    "proxy": "socks_proxy",
}
# Fields that say who the client is: a new one replaces all.
_IDENTITY = ("user", "password", "token", "creds", "nkey", "nsc", "user_jwt", "user_seed")
_JSON = click.option("--json", "as_json", is_flag=True, help="print JSON")


@click.group(cls=Group, aliases=("ctx",))
def context() -> None:
    """Manage contexts: servers and credentials under a name.

    Their files are those of the official tool, below ~/.config/nats.
    """


@context.command("ls", aliases=("list",), connects=False, examples="context ls")
@_JSON
def ls(as_json: bool) -> None:
    """List the contexts; the selected one has a star."""
    chosen = Context.selected()
    rows: list[dict[str, Any]] = []
    for name in Context.list():
        try:
            shown = Context.load(name).redacted()
        except ContextError as error:  # a broken file hides no other one
            complain(error)
            shown = {}
        rows.append(
            {
                "name": name,
                "selected": name == chosen,
                "description": shown.get("description") or "",
                "url": shown.get("url") or "",
            }
        )
    if as_json:
        write_json(rows)
    elif not rows:
        note("No contexts; nats-ev context save NAME makes one")
    else:
        table(
            ("Name", "Description", "URL"),
            [
                (
                    f"{row['name']}*" if row["selected"] else row["name"],
                    row["description"],
                    row["url"],
                )
                for row in rows
            ],
            title="Contexts",
        )


@context.command(
    "show",
    aliases=("info",),
    connects=False,
    examples="""
        context show
        context show staging --json
    """,
)
@click.argument("name", required=False)
@_JSON
def show(name: str | None, as_json: bool) -> None:
    """Show a context without its secrets. The default is the selected one."""
    found = Context.load(name)
    shown = {field: value for field, value in found.redacted().items() if value}
    if as_json:
        write_json({"name": found.name, **shown})
        return
    labels = [(field.replace("_", " "), value) for field, value in shown.items()]
    details(f"Context {found.name}", ("", [*labels, ("file", found.path)]))


@context.command(
    "save",
    aliases=("add", "edit"),
    examples="""
        context save local --server nats://127.0.0.1:4222 --select
        context save prod --server tls://n1,tls://n2 --creds ~/prod.creds --description 'be careful'
        context save prod --js-domain hub
    """,
)
@click.argument("name")
@click.option("--description", help="a text")
@click.option("--select", is_flag=True, help="also select it")
@with_settings
def save(settings: Settings, name: str, description: str | None, select: bool) -> None:
    """Save the options for connecting as a context. What no option names stays in one that exists."""
    saved = Context.load(name) if name in Context.list() else Context(name)
    given = {field: getattr(settings, option) for option, field in _FIELDS.items()}
    given["socks_proxy"] = settings.proxy_url
    given["description"] = description
    changes = {field: value for field, value in given.items() if value is not None}
    if changes.keys() & set(_IDENTITY) - {"password"}:
        for field in _IDENTITY:
            saved.fields.pop(field, None)
    if "user" in changes and "password" not in changes:
        changes["token"] = changes.pop("user")
    saved.fields.update(changes)
    path = saved.save()
    if select:
        Context.select(name)
    note(f"Saved {path}{', and selected it' if select else ''}")


@context.command("select", connects=False, examples="context select prod")
@click.argument("name", required=False)
@click.option("--previous", is_flag=True, help="the one that was selected before")
def select(name: str | None, previous: bool) -> None:
    """Select a context. It counts when nothing else says where to connect."""
    if previous and name is None:
        name = Context.previous()
    if name is None:
        raise click.UsageError("name a context")
    Context.select(name)
    note(f"Selected {name}")


@context.command("unselect", connects=False, examples="context unselect")
def unselect() -> None:
    """Select no context."""
    Context.select(None)


@context.command("rm", aliases=("delete", "del"), connects=False, examples="context rm old --force")
@click.argument("name")
@click.option("--force", "-f", is_flag=True, help="do not ask")
def rm(name: str, force: bool) -> None:
    """Delete a context."""
    confirm(f"Delete context {name}?", force)
    Context.delete(name)


@context.command(
    "validate",
    connects=False,
    examples="""
        context validate
        context validate prod --connect
    """,
)
@click.argument("name", required=False)
@click.option("--connect", is_flag=True, help="also connect to its servers")
@click.pass_context
def validate(ctx: click.Context, name: str | None, connect: bool) -> None:
    """Check one context, or all. The files that it names must exist."""
    bad = 0
    for each in [name] if name is not None else Context.list():
        try:
            settings = Settings(context=each)
            # The loop does not run: the client only checks what it is given.
            settings.create(loop=settings.loop).disconnect()
            Context.load(each).jetstream_options()
            if connect:
                with settings.connect():
                    pass
        except NatsError as error:
            bad += 1
            complain(f"{each}: {error}")
        else:
            write(f"{each}: ok")
    if bad:
        ctx.exit(1)


COMMANDS = (context,)
