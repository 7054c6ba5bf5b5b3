"""Contexts: files that the official tools write and read, what clients make of them, and the environment."""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.jwts import Key, Setup, creds_text, write_creds
from nats_ev import (
    BadOptionsError,
    Context,
    ContextError,
    ContextNotFoundError,
    JetStream,
    Nats,
)
from nats_ev.contexts import from_environment
from nats_ev.testing.certificates import server_config

# As natscli 0.4 writes one: all fields, in this order.
OFFICIAL = """{
  "description": "the staging cluster",
  "url": "nats://127.0.0.1:4222,nats://127.0.0.2:4222",
  "socks_proxy": "",
  "token": "",
  "user": "app",
  "password": "hunter2",
  "creds": "",
  "nkey": "",
  "cert": "",
  "key": "",
  "ca": "",
  "nsc": "",
  "jetstream_domain": "hub",
  "jetstream_api_prefix": "",
  "jetstream_event_prefix": "EVENTS",
  "inbox_prefix": "_MINE",
  "user_jwt": "",
  "user_seed": "",
  "color_scheme": "green",
  "tls_first": true,
  "windows_cert_store": "",
  "windows_cert_match_by": "",
  "windows_cert_match": "",
  "windows_ca_certs_match": null
}"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the settings of nats; no variable says anything."""
    for name in [name for name in os.environ if name.startswith("NATS_")]:
        if name not in ("NATS_SERVER", "NATS_EV_KEEP_TRACEBACKS"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "nats"


def write(home: Path, name: str, content: Any) -> Path:
    path = home / "context" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


# Files.


def test_a_context_of_the_official_tool_is_read_and_written_again_byte_for_byte(home: Path) -> None:
    path = write(home, "staging", OFFICIAL)
    context = Context.load("staging")
    assert context["user"] == "app"
    assert context.options() == {
        "servers": ["nats://127.0.0.1:4222", "nats://127.0.0.2:4222"],
        "user": "app",
        "password": "hunter2",
        "inbox_prefix": "_MINE",
        "tls_handshake_first": True,
    }
    assert context.jetstream_options() == {"domain": "hub", "event_prefix": "EVENTS"}
    assert context.save() == str(path)
    assert path.read_text() == OFFICIAL


def test_unknown_fields_are_kept_after_the_known_ones(home: Path) -> None:
    path = write(home, "x", {"zone": {"a": [1]}, "url": "nats://h", "later": None})
    context = Context.load("x")
    context.fields["description"] = "changed"
    context.save()
    again = json.loads(path.read_text())
    assert again["zone"] == {"a": [1]}
    assert again["later"] is None
    assert again["description"] == "changed"
    assert list(again)[-2:] == ["zone", "later"]


def test_files_are_the_owners_only_and_replaced_as_a_whole(home: Path) -> None:
    context = Context("x", url="nats://h", password="secret", user="u")
    path = Path(context.save())
    before = path.stat().st_ino
    context.save()
    assert path.stat().st_ino != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["x.json"]


def test_the_selected_context_is_that_of_the_official_tool(home: Path) -> None:
    assert Context.selected() is None
    for name in ("a", "b"):
        Context(name).save()
        Context.select(name)
    assert (home / "context.txt").read_text() == "b"
    assert (home / "previous-context.txt").read_text() == "a"
    assert (Context.selected(), Context.previous()) == ("b", "a")
    (home / "context.txt").write_text("a\n")  # as an editor leaves it
    assert Context.load().name == "a"
    Context.select(None)
    assert Context.selected() is None
    assert Context.previous() == "a"
    assert not (home / "context.txt").exists()


def test_a_variable_names_the_context_before_the_selection_does(monkeypatch: Any) -> None:
    for name in ("a", "b"):
        Context(name).save()
    Context.select("a")
    monkeypatch.setenv("NATS_CONTEXT", "b")
    assert Context.load().name == "b"
    monkeypatch.setenv("NATS_CONTEXT", "")
    assert Context.load().name == "a"


def test_list_and_delete(home: Path) -> None:
    assert Context.list() == []
    for name in ("b", "a b", "c.d"):
        Context(name).save()
    write(home, "empty", "")
    write(home, "not..ours", "{}")
    (home / "context" / "folder.json").mkdir()
    (home / "context" / "notes.txt").write_text("x")
    assert Context.list() == ["a b", "b", "c.d"]
    Context.select("b")
    with pytest.raises(ContextError, match="context 'b' is selected"):
        Context.delete("b")
    Context.delete("a b")
    Context.delete("c.d")
    Context.delete("b")  # the last one
    assert Context.list() == []
    assert Context.selected() is None
    with pytest.raises(ContextNotFoundError):
        Context.delete("b")


def test_a_file_elsewhere_is_a_context_too_and_is_saved_there(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"url": "nats://h:1"}')
    for name in (path, str(path)):
        context = Context.load(name)
        assert (context.name, context.path) == ("mine", str(path))
    context.fields["user"] = "u"
    assert context.save() == str(path)
    assert json.loads(path.read_text())["user"] == "u"
    assert context.save("copy") == str(home / "context" / "copy.json")


def test_home_has_the_settings_without_xdg(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Context("x").save() == str(tmp_path / ".config" / "nats" / "context" / "x.json")


# Errors: each says which file and field.


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not JSON"),
        ('{"password": "hunter2",', "not JSON"),
        ("[]", "it must be a JSON object, not a list"),
        ('"hunter2"', "it must be a JSON object, not a text"),
        ('{"url": 5}', "url: it must be a text, not a number"),
        ('{"password": ["hunter2"]}', "password: it must be a text, not a list"),
        ('{"tls_first": "yes"}', "tls_first: it must be true or false, not a text"),
        ('{"windows_ca_certs_match": "x"}', "windows_ca_certs_match: it must be a list of texts"),
        ("[" * 100_000, "nested too deeply"),
        ('{"user": ' + "1" * 5000 + "}", "a number in it is too long"),
    ],
)
def test_a_broken_file_is_named_and_no_secret_of_it_shown(
    home: Path, content: str, says: str
) -> None:
    path = write(home, "x", content)
    with pytest.raises(ContextError) as caught:
        Nats.from_context("x")
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.path == str(path)


def test_a_file_of_other_bytes_or_that_is_none_is_named(home: Path) -> None:
    path = write(home, "x", "")
    path.write_bytes(b'{"user": "\xff"}')
    with pytest.raises(ContextError, match=r"x\.json: not UTF-8"):
        Context.load("x")
    path.unlink()
    path.mkdir()
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(ContextError, match=r"x\.json"):
        Context.load("x")
    assert len(os.listdir("/dev/fd")) == before
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(ContextError, match=r"x\.json is not a regular file"):
        Context.load("x")


def test_a_file_that_may_not_be_read_is_named(home: Path) -> None:
    write(home, "x", "{}").chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root reads every file
    try:
        with pytest.raises(ContextError, match=r"cannot open .*x\.json: Permission denied"):
            Context.load("x")
    finally:
        os.seteuid(user)


def test_missing_contexts_say_where_they_were_looked_for(home: Path) -> None:
    with pytest.raises(
        ContextNotFoundError, match=r"no context 'x': .*/x\.json does not exist"
    ) as caught:
        Nats.from_context("x")
    assert caught.value.name == "x"
    with pytest.raises(ContextNotFoundError, match=r"no context is selected: .*context\.txt"):
        Nats.from_context()
    with pytest.raises(ContextNotFoundError):
        Context.select("x")
    home.mkdir(parents=True)
    (home / "context.txt").write_text("gone")
    with pytest.raises(ContextNotFoundError, match="no context 'gone'"):
        JetStream.from_context()


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\\b", "..", "a\0b"])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    for call in (
        Context.load,
        Context.select,
        Context.delete,
        Context("x").save,
        Nats.from_context,
    ):
        with pytest.raises(ContextError, match="invalid context name"):
            call(name)


def test_a_selection_that_leads_elsewhere_is_refused(home: Path) -> None:
    home.mkdir(parents=True)
    (home / "context.txt").write_text("../../etc/passwd")
    with pytest.raises(ContextError, match="invalid context name"):
        Context.load()


def test_wrong_types_in_a_call_are_type_errors() -> None:
    with pytest.raises(TypeError):
        Context.load(5)  # type: ignore[arg-type]
    with pytest.raises(ContextError, match="url: it must be a text"):
        Context("x", url=["nats://h"])
    with pytest.raises(ContextError, match="not JSON"):
        Context("x", mine=object()).save()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"creds": "/nowhere/x.creds"}, "creds: cannot open /nowhere/x.creds"),
        ({"nkey": "/nowhere/x.nk"}, "nkey: cannot open /nowhere/x.nk"),
        ({"ca": "/nowhere/ca.pem"}, "ca: cannot open /nowhere/ca.pem"),
        ({"cert": "/nowhere/c.pem", "key": "/k"}, "cert: cannot open /nowhere/c.pem"),
        ({"key": "/dev/null"}, "key: "),
        ({"ca": "data:;base64,AAAA"}, "ca: it must be the path of a file"),
        ({"creds": "vault://x"}, "creds: references of the kind vault: are not supported"),
        ({"creds": "env://NO_SUCH_VARIABLE"}, "creds: the variable 'NO_SUCH_VARIABLE' is not set"),
        ({"creds": "data:;base64,AAAA"}, "creds: missing NATS USER JWT block"),
        ({"creds": "data:,AAAA"}, "creds: a data: reference must be data:;base64,"),
        (
            {"user": "u", "password": "data:;base64,!"},
            "password: a data: reference has invalid base64",
        ),
        ({"windows_cert_store": "user"}, "windows_cert_store: this client does not support"),
        ({"inbox_prefix": "a b"}, "json: inbox_prefix: invalid subject"),
        ({"url": "http://h"}, "url: invalid server URL"),
        ({"user_jwt": "e.y.J", "user_seed": "SUA"}, "user_seed: invalid NKey seed"),
        ({"nkey": "$BROKEN"}, "nkey: {BROKEN}: invalid NKey seed"),
        ({"creds": "$BROKEN"}, "creds: {BROKEN}: missing NATS USER JWT block"),
        ({"jetstream_api_prefix": "a b"}, "jetstream_api_prefix: invalid subject"),
        ({"jetstream_domain": "a.*"}, "jetstream_domain: "),
        (
            {"jetstream_event_prefix": ">"},
            "jetstream_event_prefix: a prefix must not have wildcards",
        ),
        ({"jetstream_domain": "d", "jetstream_api_prefix": "p"}, "exclude each other"),
    ],
)
def test_what_a_field_asks_for_and_is_not_there_is_named(
    fields: Any, says: str, tmp_path: Path, monkeypatch: Any
) -> None:
    broken = tmp_path / "broken"
    broken.touch(0o600)
    broken.write_text("no creds")
    monkeypatch.setenv("BROKEN", str(broken))
    path = Context("x", **fields).save()
    with pytest.raises(ContextError) as caught:
        JetStream.from_context("x")
    assert path in str(caught.value)
    assert says.replace("{BROKEN}", str(broken)) in str(caught.value)


def test_two_identities_are_refused_when_saving_and_the_first_counts_when_loading(
    home: Path,
) -> None:
    with pytest.raises(ContextError, match="user and creds exclude each other"):
        Context("x", user="u", creds="/c").save()
    write(home, "x", {"user": "u", "creds": "/nowhere", "token": "t"})
    assert Context.load("x").options() == {
        "servers": ["nats://127.0.0.1:4222"], "user": "u", "password": "", "token": "t",
    }  # fmt: skip


def test_secrets_show_in_no_repr_and_not_in_what_is_for_showing() -> None:
    secrets = {
        "url": "nats://u:hunter2@h:1,tls://hunter2@[::1]:2", "password": "hunter2", "token": "hunter2",
        "user_jwt": "hunter2", "user_seed": "hunter2", "creds": "data:;base64,hunter2",
        "nkey": "data:;base64,hunter2", "socks_proxy": "socks5://u:hunter2@h:1080",
    }  # fmt: skip
    context = Context("x", **secrets)
    assert "hunter2" not in repr(context)
    assert "hunter2" not in str(context.redacted())
    for url in (
        "nats://u:a,hunter2@h",
        "nats://u:hunter2,b@h",
        "u:hunter2@h",
        "nats://u:x://hunter2@h",
    ):
        assert "hunter2" not in repr(Context("x", url=url))
    assert (
        repr(Context("x", url="[::1]:4222,ws://h:80/a,h"))
        == "<Context 'x' [::1]:4222,ws://h:80/a,h>"
    )
    assert context.redacted()["url"] == "nats://<redacted>@h:1,tls://<redacted>@[::1]:2"


# The tool nsc, as a stand-in that answers what the real one does.


def tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{script}\n")
    path.chmod(0o755)


def test_nsc_is_asked_for_credentials_and_servers(tmp_path: Path, monkeypatch: Any) -> None:
    creds = write_creds(tmp_path / "u.creds", "e.y.J", Key("user").seed)
    profile = {"user_creds": str(creds), "operator": {"service": ["nats://h:1", "nats://h:2"]}}
    asked = "import sys\nassert sys.argv[1:] == ['generate', 'profile', 'nsc://O/A/U']"
    tool(tmp_path, "nsc", f"{asked}\nprint({json.dumps(profile)!r})")
    context = Context("x", nsc="nsc://O/A/U")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ContextError, match="nsc: it needs the tool nsc, which is not on PATH"):
        context.options()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert context.options() == {"servers": ["nats://h:1", "nats://h:2"], "creds_file": str(creds)}
    assert b"e.y.J" in Context("x", creds="nsc://O/A/U").options()["user_credential_bytes"]
    tool(tmp_path, "nsc", "import sys\nsys.exit('no such user')")
    with pytest.raises(ContextError, match="nsc: the tool nsc has failed with 1: no such user"):
        context.options()
    tool(tmp_path, "nsc", "print('hunter2')")
    with pytest.raises(ContextError, match="nsc: the tool nsc has written no profile"):
        context.options()


# Options of a call win.


def test_options_of_the_call_win() -> None:
    context = Context("x", url="nats://h:1", user="u", password="p", token="t", inbox_prefix="_A")
    assert context.options(servers=["nats://g"], inbox_prefix="_B", name="me") == {
        "servers": ["nats://g"], "user": "u", "password": "p", "token": "t", "inbox_prefix": "_B",
        "name": "me",
    }  # fmt: skip
    assert context.options(password="q")["user"] == "u"
    assert context.options(password="q")["password"] == "q"
    for given in ({"host": "g"}, {"path": "/s"}):
        assert "servers" not in context.options(**given)
    own = context.options(creds_file="/c")
    assert own.keys() == {"servers", "creds_file", "inbox_prefix"}
    assert context.options(token="v").keys() == {"servers", "token", "inbox_prefix"}


def test_what_is_replaced_need_not_exist() -> None:
    context = Context("x", creds="/nowhere", ca="/nowhere", cert="/nowhere", key="/nowhere")
    made = context.options(token="t", tls_context=object())
    assert made.keys() == {"servers", "token", "tls_context"}
    assert (
        "tls_ca_file" not in context.options(user="u", tls_ca_file="/x", tls_cert_file="/y").items()
    )


def test_a_mistake_in_the_call_is_not_blamed_on_the_context() -> None:
    with pytest.raises(BadOptionsError) as caught:
        Nats.from_context(Context("x"), ping_interval=-1)
    assert not isinstance(caught.value, ContextError)
    with pytest.raises(TypeError, match="unknown option"):
        Nats.from_context(Context("x"), colour="red")
    with pytest.raises(ValueError, match="wildcards") as caught:
        JetStream.from_context(Context("x"), prefix=">")
    assert not isinstance(caught.value, ContextError)


# Real servers.


def test_from_context_connects_as_the_context_says(
    own_server: Any, tmp_path: Path, loop: Any, run: Any, monkeypatch: Any
) -> None:
    server = own_server(config='authorization { users = [ { user: "u", password: "p" } ] }')
    Context(
        "x", url=server.url, user="u", password="env://MY_PASSWORD", inbox_prefix="_MINE"
    ).save()
    Context.select("x")
    monkeypatch.setenv("MY_PASSWORD", "p")
    nats = Nats.from_context(None, loop=loop, name="worker")
    assert nats.context == Context.load("x")
    run(nats.is_connected)
    assert nats.new_inbox().startswith("_MINE.")
    connection = server.monitor("connz?auth=1")["connections"][0]
    assert (connection["authorized_user"], connection["name"]) == ("u", "worker")
    nats.disconnect()
    again = Nats.from_context(name="x", loop=loop)
    run(again.is_connected)
    again.disconnect()
    with pytest.raises(TypeError, match="takes one context"):
        Nats.from_context("x", "y")


def test_creds_of_a_context_from_a_file_and_from_the_context_itself(
    own_server: Any, tmp_path: Path, loop: Any, run: Any, monkeypatch: Any
) -> None:
    setup, user = Setup(), Key("user")
    server = own_server(config=setup.config())
    jwt = setup.user(user)
    write_creds(tmp_path / "u.creds", jwt, user.seed)
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    inline = base64.b64encode(creds_text(jwt, user.seed).encode()).decode()
    for fields in (
        {"creds": "$HERE/u.creds"},
        {"creds": "~/u.creds"},
        {"creds": "file://${HERE}/u.creds"},
        {"creds": f"data:;base64,{inline}"},
        {"user_jwt": jwt, "user_seed": user.seed},
    ):
        Context("x", url=server.url, **fields).save()
        nats = Nats.from_context("x", loop=loop)
        run(nats.is_connected)
        nats.disconnect()


def test_nkey_file_of_a_context(own_server: Any, tmp_path: Path, loop: Any, run: Any) -> None:
    user = Key("user")
    server = own_server(config=f'authorization {{ users = [ {{ nkey: "{user.public}" }} ] }}')
    (tmp_path / "u.nk").touch(0o600)
    (tmp_path / "u.nk").write_text(
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    nats = Nats.from_context(Context("x", url=server.url, nkey=str(tmp_path / "u.nk")), loop=loop)
    run(nats.is_connected)
    nats.disconnect()


def test_certificates_of_a_context(own_server: Any, certs: Any, loop: Any, run: Any) -> None:
    pair = certs.issue("127.0.0.1", "127.0.0.1")
    own = certs.issue("client", "client")
    server = own_server(config=server_config(pair, certs.ca))
    context = Context(
        "x",
        url=server.url,
        ca=str(certs.ca.cert_file),
        cert=str(own.cert_file),
        key=str(own.key_file),
    )
    nats = Nats.from_context(context, loop=loop)
    run(nats.is_connected)
    nats.disconnect()


def test_jetstream_from_context_uses_domain_and_prefixes(
    own_server: Any, loop: Any, run: Any, call: Any
) -> None:
    server = own_server("-js", config="jetstream { domain: hub }")
    context = Context("x", url=server.url, jetstream_domain="hub", jetstream_event_prefix="EV.")
    js = JetStream.from_context(context, loop=loop, timeout=3000)
    assert (js.prefix, js.event_prefix, js.timeout) == ("$JS.hub.API", "EV", 3000)
    result, err = call(js.account_info)
    assert err is None
    assert result["domain"] == "hub"
    seen: list[Any] = []
    js.advisories(lambda advisory, err: seen.append((advisory, err)), events="X")
    js.nats.publish("EV.X", "{}")
    run(lambda: seen)
    js.nats.disconnect()
    js = JetStream.from_context(context, loop=loop, prefix="OTHER")
    assert (js.prefix, js.domain) == ("OTHER", None)
    js.nats.disconnect()


# The environment.


def test_from_env_reads_the_variables_of_the_official_tool(
    own_server: Any, loop: Any, run: Any, monkeypatch: Any
) -> None:
    server = own_server(config='authorization { users = [ { user: "u", password: "p" } ] }')
    monkeypatch.setenv("NATS_URL", server.url)
    monkeypatch.setenv("NATS_USER", "u")
    monkeypatch.setenv("NATS_PASSWORD", "p")
    nats = Nats.from_env(loop=loop)
    run(nats.is_connected)
    nats.disconnect()


def test_the_environment_replaces_what_is_in_its_context(monkeypatch: Any) -> None:
    Context("x", url="nats://h:1", user="u", password="p", inbox_prefix="_A").save()
    assert from_environment({}).options() == {"servers": ["nats://127.0.0.1:4222"]}
    assert from_environment({"NATS_USER": "secret"}).options()["token"] == "secret"
    made = from_environment({"NATS_CONTEXT": "x", "NATS_URL": "nats://h:2,nats://h:3"}).options()
    assert made["servers"] == ["nats://h:2", "nats://h:3"]
    assert (made["user"], made["inbox_prefix"]) == ("u", "_A")
    assert (
        from_environment({"NATS_CONTEXT": "x", "NATS_PASSWORD": "q"}).options()["password"] == "q"
    )
    made = from_environment({"NATS_CONTEXT": "x", "NATS_TOKEN": "t"}).options()
    assert made.keys() == {"servers", "token", "inbox_prefix"}
    assert from_environment({"NATS_URL": "", "NATS_USER": ""}) == Context()


def test_an_error_of_the_environment_names_the_variable() -> None:
    for name in ("NATS_CREDS", "NATS_NKEY", "NATS_CA", "NATS_CERT"):
        with pytest.raises(ContextError, match=f"^{name}: cannot open /nowhere"):
            from_environment({name: "/nowhere"}).options()
    with pytest.raises(ContextNotFoundError, match="no context 'gone'"):
        from_environment({"NATS_CONTEXT": "gone"})


# The faces.


def test_faces_connect_by_a_context_and_their_jetstream_knows_its_domain(own_server: Any) -> None:
    from nats_ev import blocking

    server = own_server("-js", config="jetstream { domain: hub }")
    Context("x", url=server.url, jetstream_domain="hub").save()
    with blocking.connect(context="x") as nc:
        assert nc.context.name == "x"
        assert nc.jetstream().prefix == "$JS.hub.API"
        assert nc.jetstream().account_info()["domain"] == "hub"
        assert nc.jetstream(domain="leaf").prefix == "$JS.leaf.API"
    with blocking.connect(server.url, context=Context("y", url="nats://127.0.0.1:1")) as nc:
        assert nc.is_connected()
    with pytest.raises(ContextNotFoundError):
        blocking.connect(context="gone")
