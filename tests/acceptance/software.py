"""Three images of real software, as Debian packages it on this machine: nginx, redis, and a Python program of ours.

Each root has one program with the libraries that ldd(1) names and the files that it reads, nothing else: no shell, no
package manager. nginx and redis become ACIs, the Python program an OCI layout.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.acceptance import images
from tests.support.pods import umoci

PROGRAMS = {"nginx": "/usr/sbin/nginx", "redis": "/usr/bin/redis-server", "python": "/usr/bin/python3.11"}
WEB_USER, DATA_USER, APP_USER = 33, 101, 1000
PORT, SOCKET = 8080, "/data/redis.sock"

NGINX = f"""
worker_processes 2;
pid /data/nginx.pid;
error_log stderr;
events {{ worker_connections 512; }}
http {{
  include /etc/nginx/mime.types;
  access_log off;
  client_body_temp_path /data/body;
  proxy_temp_path /data/proxy;
  fastcgi_temp_path /data/fastcgi; uwsgi_temp_path /data/uwsgi; scgi_temp_path /data/scgi;
  upstream app {{ server 127.0.0.1:8000 max_fails=0; keepalive 16; }}
  server {{
    listen {PORT};
    location = /static {{ return 200 "nginx\\n"; }}
    location /shared/ {{ alias /data/; }}
    location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""

APP = f'''
"""Counts its visits in redis, says who it is, and dies when asked to."""
import os, socket, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

here = threading.local()

def redis(*words):
    if not hasattr(here, "file"):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect("{SOCKET}")
        here.file = sock.makefile("rwb")
    here.file.write(b"*%d\\r\\n" % len(words) + b"".join(b"$%d\\r\\n%s\\r\\n" % (len(w), w) for w in words))
    here.file.flush()
    return here.file.readline()[1:].strip()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def do_GET(self):
        if self.path == "/crash":
            print("asked to die", file=sys.stderr, flush=True)
            os._exit(3)
        answers = {{"/count": lambda: redis(b"INCR", b"visits"), "/pid": lambda: b"%d" % os.getpid()}}
        body = answers.get(self.path, lambda: b"hello")() + b"\\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

class Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        """Clients may go away."""

with open("/data/starts", "a") as file:
    file.write("started\\n")
print("serving", flush=True)
Server(("127.0.0.1", 8000), Handler).serve_forever()
'''


def copy(root: Path, path: str) -> None:
    """Copy a file of this machine to the same place below ``root``, with the links on the way made plain."""
    target = root / path.lstrip("/")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(os.path.realpath(path), target)


def copy_program(root: Path, *paths: str) -> None:
    """Copy programs and shared objects with the libraries they are linked with."""
    said = subprocess.run(["ldd", *paths], capture_output=True, text=True, check=True).stdout
    for path in (*paths, *re.findall(r"(?:=> )?(/\S+) \(0x", said)):
        copy(root, path)


def accounts(root: Path, name: str, number: int) -> None:
    """Write the account files of a root: root and one user."""
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/passwd").write_text(f"root:x:0:0::/:/none\n{name}:x:{number}:{number}::/:/none\n")
    (root / "etc/group").write_text(f"root:x:0:\n{name}:x:{number}:\n")


def _root(place: Path) -> Path:
    root = place / "rootfs"
    for name in ("data", "etc", "tmp", "dev", "proc", "sys"):
        (root / name).mkdir(parents=True)
    return root


def _aci(place: Path, name: str, app: dict[str, Any]) -> Path:
    manifest = images.manifest(name, app | {"mountPoints": [{"name": "data", "path": "/data"}]})
    (place / "manifest").write_text(json.dumps(manifest))
    return images.build(place, place.parent / f"{name}.aci")


def nginx(place: Path) -> Path:
    """Make the ACI of nginx, which serves on PORT as an ordinary user."""
    root = _root(place)
    copy_program(root, PROGRAMS["nginx"])
    copy(root, "/etc/nginx/mime.types")
    (root / "etc/nginx/nginx.conf").write_text(NGINX)
    accounts(root, "www-data", WEB_USER)
    (root / "var/lib/nginx").mkdir(parents=True)
    (root / "var/log/nginx").mkdir(parents=True)
    app = {
        "exec": [PROGRAMS["nginx"], "-g", "daemon off;", "-e", "stderr"],
        "user": "www-data",
        "group": "www-data",
        "ports": [{"name": "www", "protocol": "tcp", "port": PORT}],
    }
    return _aci(place, "web", app)


def redis(place: Path) -> Path:
    """Make the ACI of redis, which keeps nothing and listens on a socket in the volume."""
    root = _root(place)
    copy_program(root, PROGRAMS["redis"])
    accounts(root, "redis", DATA_USER)
    words = ["--unixsocket", SOCKET, "--unixsocketperm", "777", "--port", "0", "--save", "", "--dir", "/data"]
    app = {"exec": [PROGRAMS["redis"], *words], "user": "redis", "group": "redis"}
    return _aci(place, "redis", app)


def python(place: Path) -> Path:
    """Make the OCI layout of the Python program."""
    root = _root(place)
    library = Path("/usr/lib/python3.11")
    unused = shutil.ignore_patterns("test", "idlelib", "lib2to3", "ensurepip", "dist-packages", "__pycache__",
                                    "config-*", "distutils", "pydoc_data", "sitecustomize.py")  # fmt: skip
    shutil.copytree(library, root / library.relative_to("/"), ignore=unused)
    copy_program(root, PROGRAMS["python"], *map(str, (library / "lib-dynload").glob("*.so")))
    accounts(root, "app", APP_USER)
    (root / "srv").mkdir()
    (root / "srv/app.py").write_text(APP)
    layout = place.parent / "app"
    shutil.rmtree(layout, ignore_errors=True)
    umoci("init", "--layout", str(layout))
    umoci("new", "--image", f"{layout}:1")
    umoci("insert", "--image", f"{layout}:1", str(root), "/")
    umoci("config", "--image", f"{layout}:1", "--config.cmd", PROGRAMS["python"], "--config.cmd", "/srv/app.py",
          "--config.user", "app", "--config.env", "PYTHONDONTWRITEBYTECODE=1", "--config.volume", "/data")  # fmt: skip
    return layout


def build(place: Path) -> dict[str, str]:
    """Return the references of the images in ``place``, made there if they are not, or of other programs."""
    key = hashlib.sha256(Path(__file__).read_bytes() + Path(images.__file__).read_bytes())
    for program in PROGRAMS.values():
        key.update(Path(program).read_bytes())
    stamp = place / "stamp"
    if not stamp.is_file() or stamp.read_text() != key.hexdigest():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for name, make in (("web", nginx), ("redis", redis), ("python", python)):
            work = place / f"{name}.work"
            work.mkdir()
            make(work)
            shutil.rmtree(work)
        stamp.write_text(key.hexdigest())
    return {"web": str(place / "web.aci"), "redis": str(place / "redis.aci"), "app": f"oci:{place}/app:1"}


if __name__ == "__main__":
    import sys

    for name, reference in build(Path(sys.argv[1])).items():
        print(f"{name} {reference}")
