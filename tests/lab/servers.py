"""Real servers, each of one test: configured, started in a pod, waited for, ended by pid."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

from .namespace import Namespace
from .program import Program, until

TESTS = Path(__file__).resolve().parents[1]


def listening(pod: Namespace, port: int, program: Program | None = None) -> None:
    """Waits until something listens there. Asks the kernel: a connection would be traffic."""
    def there():
        if program is not None and not program.alive():
            raise RuntimeError(f"{program.label} ended: {program.text()}")
        return f":{port} " in pod.run(["ss", "-Hltn"]).stdout + " "

    until(there, f"a listener on port {port}")


def certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """A self-signed certificate for these names, and its key."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={names[0]}",
                    "-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


def nginx(pod: Namespace, folder: Path, ending, tls: tuple[Path, Path] | None = None, root: Path | None = None) -> Program:
    """nginx on 8080 (HTTP/1), 8081 (h2c) and, with a certificate, 8443; it answers every path with who it is and what it was asked."""
    home = folder / "nginx"
    home.mkdir(exist_ok=True)
    served = "return 200 '$request_method $request_uri from $remote_addr\\n';" if root is None else f"root {root};"
    secure = f"server {{ listen 8443 ssl; listen [::]:8443 ssl; ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]}; location / {{ {served} }} }}" if tls else ""
    (home / "nginx.conf").write_text(f"""
daemon off; master_process off; pid {home}/nginx.pid; error_log {home}/error.log;
events {{ worker_connections 8192; }}
worker_rlimit_nofile 20000;
http {{
  access_log {home}/access.log; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi; default_type text/plain; keepalive_requests 10000000; sendfile on;
  server {{ listen 8080 backlog=4096; listen [::]:8080; location / {{ {served} }} }}
  server {{ listen 8081 http2; listen [::]:8081 http2; location / {{ {served} }} }}
  {secure}
}}
""")
    program = Program(pod, ["nginx", "-p", home, "-c", home / "nginx.conf"], folder, "nginx")
    ending.callback(program.stop)
    listening(pod, 8080, program)
    return program


def redis(pod: Namespace, folder: Path, ending, port: int = 6379) -> Program:
    """redis-server without a disk."""
    program = Program(pod, ["redis-server", "--port", port, "--bind", "*", "-::*", "--protected-mode", "no", "--save", "", "--daemonize", "no", "--dir", folder], folder, "redis")
    ending.callback(program.stop)
    listening(pod, port, program)
    return program


def postgres(pod: Namespace, folder: Path, ending, port: int = 5432) -> Program:
    """A PostgreSQL cluster of its own, trusting everyone who reaches it."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    assert found, "postgresql is not installed"
    binaries = Path(found[-1]).parent
    user = pwd.getpwnam("postgres")
    data = folder / "postgres"
    data.mkdir()
    shutil.chown(data, user.pw_uid, user.pw_gid)
    as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
    subprocess.run([*as_user, binaries / "initdb", "-D", data, "--auth=trust", "--no-sync", "-U", "shop"], check=True, capture_output=True, cwd="/")
    with open(data / "pg_hba.conf", "a", encoding="ascii") as file:
        file.write("host all all all trust\n")
    program = Program(pod, [*as_user, binaries / "postgres", "-D", data, "-p", port, "-c", "listen_addresses=*", "-c", f"unix_socket_directories={data}", "-c", "fsync=off"], folder, "postgres")
    ending.callback(program.stop)
    listening(pod, port, program)
    return program


def mariadb(pod: Namespace, folder: Path, ending, port: int = 3306) -> Program:
    """A MariaDB server of its own, as `nobody`, trusting everyone who reaches it. Its protocol lets the server speak first."""
    user = pwd.getpwnam("nobody")
    data = folder / "mariadb"
    data.mkdir()
    shutil.chown(data, user.pw_uid, user.pw_gid)
    as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
    subprocess.run([*as_user, "mariadb-install-db", "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"],
                   check=True, capture_output=True, cwd="/", stdin=subprocess.DEVNULL)
    program = Program(pod, [*as_user, "mariadbd", "--no-defaults", "--skip-grant-tables", "--skip-networking=0", "--skip-name-resolve", f"--datadir={data}", f"--socket={data}/socket",
                            f"--pid-file={data}/pid", f"--port={port}", "--bind-address=*", "--innodb-buffer-pool-size=8M", "--skip-log-bin"], folder, "mariadb")
    ending.callback(program.stop)
    listening(pod, port, program)
    return program


def s_server(pod: Namespace, folder: Path, ending, tls: tuple[Path, Path], port: int = 8443) -> Program:
    """`openssl s_server`, answering HTTP."""
    program = Program(pod, ["openssl", "s_server", "-accept", port, "-cert", tls[0], "-key", tls[1], "-www", "-quiet"], folder, "s_server")
    ending.callback(program.stop)
    listening(pod, port, program)
    return program


def python(pod: Namespace, folder: Path, ending, module: str, *arguments) -> Program:
    """A module of the lab in a process of its own, inside the pod."""
    program = Program(pod, [sys.executable, "-m", module, *arguments], folder, module.rpartition(".")[2], environment={"PYTHONPATH": str(TESTS), "PYTHONUNBUFFERED": "1"})
    ending.callback(program.stop)
    return program


def run_python(pod: Namespace, module: str, *arguments, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess:
    """The same to its end, for clients."""
    return pod.run([sys.executable, "-m", module, *map(str, arguments)], check=check, timeout=timeout, env={**os.environ, "PYTHONPATH": str(TESTS), "PYTHONUNBUFFERED": "1"})
