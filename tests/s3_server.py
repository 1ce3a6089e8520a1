"""A server on this machine that speaks S3 (moto), over a real connection, and keeps count of what
it was asked."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from pyarrow import fs

BUCKET = "studies"
KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class S3Server(NamedTuple):
    """A running server.

    Args:
        endpoint: its address.
        requests: method and path of every request, oldest first.
    """

    endpoint: str
    requests: list[tuple[str, str]]

    def uri(self, prefix: str) -> str:
        """A place in its bucket, as a study file names it."""
        return f"s3://{BUCKET}/{prefix}?endpoint_override={self.endpoint}&region=us-east-1"

    def reads(self, ending: str) -> list[str]:
        """Paths of the objects that were read, as often as they were."""
        return [path for method, path in self.requests if method == "GET" and path.endswith(ending)]


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Starts one with an empty bucket, on a free port of the loopback interface."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    os.environ.update(KEYS)
    requests: list[tuple[str, str]] = []
    application = DomainDispatcherApplication(create_backend_app)

    def counted(environ: dict, start_response: object) -> object:
        requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        return application(environ, start_response)

    server = make_server("127.0.0.1", 0, counted, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        endpoint = f"127.0.0.1:{server.server_port}"
        fs.S3FileSystem(
            endpoint_override=endpoint,
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        ).create_dir(BUCKET)
        yield S3Server(f"http://{endpoint}", requests)
    finally:
        server.shutdown()
        thread.join()
