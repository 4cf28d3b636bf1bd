"""A web server of a folder that answers Range requests, as object storage does.

    python tests/range_server.py FOLDER [--port 8000] [--delay-ms 0]

For tests on one machine, without authentication. --delay-ms: latency added to each answer.
"""

import argparse
import re
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(SimpleHTTPRequestHandler):
    """Serves files and byte ranges of them."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # headers and content in one packet where they fit
    delay_ms = 0.0

    def do_GET(self) -> None:
        if self.delay_ms:
            time.sleep(self.delay_ms / 1000)
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not span or not path.is_file():
            super().do_GET()
            return
        first, last, total = int(span[1]), int(span[2]), path.stat().st_size
        if first >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        with path.open("rb") as file:
            file.seek(first)
            content = file.read(last - first + 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(content) - 1}/{total}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = (
        128  # with the default of 5, further clients would be refused and retry a second later
    )


def server(folder: Path, port: int = 0, delay_ms: float = 0.0) -> Server:
    """Return a server of the folder on 127.0.0.1, not yet started; port 0: any free one."""
    handler = type("Delayed", (Handler,), {"delay_ms": delay_ms})
    return Server(("127.0.0.1", port), partial(handler, directory=str(folder)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    chosen = parser.parse_args()
    one = server(chosen.folder, chosen.port, chosen.delay_ms)
    print(f"http://127.0.0.1:{one.server_port}", flush=True)
    one.serve_forever()


if __name__ == "__main__":
    main()
