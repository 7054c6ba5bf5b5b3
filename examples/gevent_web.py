"""A web server on gevent whose pages come from a service: GET /upper/<text>.

One client serves all requests; each waits in a greenlet of its own. NATS_URL says where the server is, the
argument is the port, 0 for any.
"""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402

import gevent  # noqa: E402
from gevent.pywsgi import WSGIServer  # noqa: E402

from nats_ev import NoRespondersError, RequestTimeoutError, green  # noqa: E402

nc = green.connect(
    os.environ.get("NATS_URL", "nats://127.0.0.1:4222"),
    reconnect=True,
    retry_on_failed_connect=False,
    no_responders=True,
)


def serve() -> None:
    for msg in nc.subscribe("upper", "workers"):
        msg.respond(msg.payload.upper())


def application(environ, start_response):
    _, name, text = (environ["PATH_INFO"] + "//").split("/")[:3]
    status = "200 OK"
    try:
        body = nc.request(name or "upper", text, timeout_ms=1000).payload
    except NoRespondersError:
        status, body = "404 Not Found", b"no such service"
    except RequestTimeoutError:
        status, body = "504 Gateway Timeout", b"no answer"
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


gevent.spawn(serve)
web = WSGIServer(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 8080), application, log=None)
gevent.signal_handler(signal.SIGTERM, web.stop)
web.start()
print("listening on", web.server_port, flush=True)
web.serve_forever()
nc.drain()
