"""What a log or a debugger shows of a public object: its name and state, and nothing secret."""

from __future__ import annotations

import itertools

import pytest

from nats_ev import KV, JetStream, ObjectStore, Service, errors

_numbers = itertools.count(1)


@pytest.fixture
def nats(connected, server):
    return connected(server)


@pytest.fixture
def js(nats, call):
    js = JetStream(nats)
    yield js
    for name in call(js.stream_names)[0] or ():
        if name.startswith(("REPR", "KV_repr", "OBJ_repr")):
            call(js.stream_delete, name)


@pytest.fixture
def stream(js, call):
    name = f"REPR{next(_numbers)}"
    assert call(js.stream_create, {"name": name, "subjects": [f"{name}.>"]})[1] is None
    assert call(js.publish, f"{name}.a", b"secret")[1] is None
    return name


def test_consume_shows_its_stream_its_consumer_and_whether_it_runs(js, stream, call, run):
    assert call(js.consumer_create, stream, {"durable_name": "pull"})[1] is None
    got = []
    consume = js.consume(stream, "pull", {}, lambda msg, err: got.append(msg))
    run(lambda: got)
    assert all(word in repr(consume) for word in (stream, "pull", "running"))
    assert "secret" not in repr(consume)
    assert "secret" not in repr(got[0])
    consume.stop()
    assert "closed" in repr(consume)


def test_an_ordered_consumer_shows_how_far_it_is(js, stream, run):
    got = []
    consumer = js.ordered_consumer(stream, {}, lambda msg, err: got.append(msg))
    run(lambda: got)
    assert stream in repr(consumer)
    assert "at 1" in repr(consumer)
    consumer.stop()
    assert "closed" in repr(consumer)


def test_a_push_subscription_shows_its_stream_its_consumer_and_whether_it_runs(js, stream, run):
    got = []
    push = js.push_subscribe(stream, {"name": "pushed"}, {}, lambda msg, err: got.append(msg))
    run(lambda: got)
    assert all(word in repr(push) for word in (stream, "pushed", "running"))
    push.stop()
    assert "closed" in repr(push)


def test_a_stored_message_shows_where_it_is_and_not_what_it_says(js, stream, call):
    message, error = call(js.get_msg, stream, 1)
    assert error is None
    assert message.payload == message.data == b"secret"
    assert all(word in repr(message) for word in (stream, f"{stream}.a", "1", "6"))
    assert "secret" not in repr(message)


def test_buckets_and_their_watches_show_the_bucket(js, call, run):
    kv = KV(js, f"repr{next(_numbers)}")
    store = ObjectStore(js, f"repr{next(_numbers)}")
    told = []
    for bucket in (kv, store):
        assert call(bucket.create_bucket)[1] is None
        assert bucket.bucket in repr(bucket)
    for bucket, args in ((kv, (">",)), (store, ())):
        watch = bucket.watch(*args, lambda item, err: told.append(item))
        assert bucket.bucket in repr(watch)
        run(lambda: told)
        told.clear()
        watch.stop()
        assert "stopped" in repr(watch)


def test_transfers_of_objects_show_the_object_and_whether_they_are_done(js, call, run):
    store, ended = ObjectStore(js, f"repr{next(_numbers)}"), []
    assert call(store.create_bucket)[1] is None
    upload = store.put("song.ogg", b"secret", lambda info, err: ended.append(err))
    assert "song.ogg" in repr(upload)
    assert "done" not in repr(upload)
    run(lambda: ended)
    assert "done" in repr(upload)
    download = store.get("song.ogg", lambda data, err: ended.append(err))
    assert "song.ogg" in repr(download)
    run(lambda: len(ended) == 2)
    assert "done" in repr(download)
    assert ended == [None, None]
    assert "secret" not in repr(upload) + repr(download)


def test_a_service_its_endpoints_and_their_requests_show_their_names(nats, run):
    service = Service(nats, "weather", "1.2.3")
    seen = []

    def handler(request):
        seen.append(repr(request))
        request.respond(b"sunny")

    endpoint = service.add_endpoint("today", handler, subject="repr.today")
    answers = []
    nats.request("repr.today", b"secret", lambda data, err, headers: answers.append(data))
    run(lambda: answers)
    assert all(word in repr(service) for word in ("weather", "1.2.3", service.id))
    assert all(word in repr(endpoint) for word in ("today", "repr.today"))
    assert "repr.today" in seen[0]
    assert "secret" not in seen[0]


def test_an_error_survives_pickling_with_what_it_knows():
    import pickle

    from nats_ev.service import ServiceError

    error = pickle.loads(pickle.dumps(ServiceError(404, "no such town")))
    assert type(error) is ServiceError
    assert (error.code, error.description) == ("404", "no such town")
    assert isinstance(error, errors.NatsError)
