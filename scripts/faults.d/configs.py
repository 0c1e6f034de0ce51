"""The configurations of the gateway and its peers, alike where it matters, and how each is started.

Used by gateways. `{names}` are filled in there: ports, the folder, the upstreams, and the seconds of deadlines.
"""

import os
import pathlib
import shutil

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"

NGINX = """
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
worker_processes 1; pid {folder}/nginx.pid; error_log /dev/null crit;
events {{ worker_connections 24000; }}
worker_rlimit_nofile {descriptors};
worker_shutdown_timeout {drain}s;
http {{
    access_log off; keepalive_requests 100000000;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_connect_timeout {connect}s; proxy_read_timeout {answer}s;
    upstream app {{ server 127.0.0.1:{upstream}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{h1};
        location / {{ proxy_pass http://app; }}
        location /dead {{ proxy_pass http://127.0.0.1:{dead}; }}
        location /switch {{ proxy_pass http://app; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }}
    }}
    server {{ listen 127.0.0.1:{tls} ssl; ssl_certificate {folder}/both.pem; ssl_certificate_key {folder}/both.pem;
        location / {{ proxy_pass http://app; }} }}
    server {{ listen 127.0.0.1:{h2} http2; location / {{ proxy_pass http://app; }} }}
}}
stream {{ server {{ listen 127.0.0.1:{tcp}; proxy_pass 127.0.0.1:{upstream}; }} }}
"""

# maxconn counts clients; HAProxy starts with fewer descriptors than twice that only if it is told that this is meant.
HAPROXY = """
global
    nbthread 1
    maxconn {maxconn}
    no strict-limits
    stats socket {folder}/haproxy.sock level admin expose-fd listeners
    hard-stop-after {drain}s
defaults
    mode http
    timeout connect {connect}s
    timeout client 60s
    timeout server {answer}s
    timeout tunnel 60s
    timeout http-request 60s
    http-reuse always
frontend web
    bind 127.0.0.1:{h1}
    bind 127.0.0.1:{h2} proto h2
    bind 127.0.0.1:{tls} ssl crt {folder}/both.pem
    use_backend dead if {{ path_beg /dead }}
    default_backend app
backend app
    server upstream 127.0.0.1:{upstream}
backend dead
    server upstream 127.0.0.1:{dead}
listen wire
    mode tcp
    bind 127.0.0.1:{tcp}
    server upstream 127.0.0.1:{upstream}
"""

OURS = """
[gateway]
workers = 1
max_connections = 24000
drain_timeout = "{drain}s"
[log]
access = false
[admin]
listen = "127.0.0.1:{admin}"
control = "{folder}/control.sock"
[endpoints.web]
listen = ["127.0.0.1:{h1}", "127.0.0.1:{h2}"]
class = "internal"
handler = "site"
max_connections = 24000
timeouts = {{ header = "60s" }}
[endpoints.tls]
listen = "127.0.0.1:{tls}"
class = "internal"
handler = "site"
max_connections = 24000
timeouts = {{ header = "60s" }}
[endpoints.tls.tls]
certificates = [{{ chain = "{folder}/both.pem", key = "{folder}/both.pem" }}]
[endpoints.wire]
listen = "127.0.0.1:{tcp}"
class = "internal"
handler = "wire"
[handlers.wire]
type = "tcp-proxy"
upstream = "app"
[handlers.site]
type = "http-proxy"
upstream = "app"
[[handlers.site.routes]]
path = "/dead"
upstream = "dead"
[upstreams.app]
servers = ["127.0.0.1:{upstream}"]
[upstreams.app.timeouts]
connect = "{connect}s"
response = "{answer}s"
[upstreams.dead]
servers = ["127.0.0.1:{dead}"]
[upstreams.dead.timeouts]
connect = "{connect}s"
response = "{answer}s"
"""

PATH = os.environ["PATH"] + os.pathsep + "/usr/sbin"  # where Debian keeps servers

# nginx starts its successor by the path that it was started by, and only as a daemon.
PEERS = {
    "nginx": (NGINX, [shutil.which("nginx", path=PATH) or "nginx", "-e", "stderr", "-c", "{config}"]),
    "haproxy": (HAPROXY, [shutil.which("haproxy", path=PATH) or "haproxy", "-db", "-f", "{config}"]),
    "portcullis": (OURS, [str(TARGET / "portcullis"), "run", "--config", "{config}"]),
}
