"""Prints the most memory a capture, an export, a verification and a restore hold, at one size and at ten times it.

    memory.py KALEEM_DR DIRECTORY

The peaks are the kernel's (wait4). BENCH_MEMORY_MB is the smaller size of files, n8n and MongoDB; RabbitMQ has 200 queues, then 2,000.
BENCH_MEMORY_OF chooses among them: files,n8n,rabbitmq,mongo. The servers are those of dev/up.
"""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import urllib.parse
import urllib.request
from base64 import b64encode
from pathlib import Path

PROGRAM, HOME = sys.argv[1], Path(sys.argv[2]) / "memory"
MB = int(os.environ.get("BENCH_MEMORY_MB", "256"))


def peak(config, *args):
    log = os.open(HOME / "log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    command = [PROGRAM, "--quiet", "--config", str(config), *args]
    pid = os.posix_spawn(
        PROGRAM, command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
    )
    _, status, usage = os.wait4(pid, 0)
    os.close(log)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{' '.join(args)}: {(HOME / 'log').read_text()}")
    return usage.ru_maxrss / 1000


def files(mb):
    tree = HOME / "tree"
    tree.mkdir()
    for number in range(mb // 16):
        (tree / str(number)).write_bytes(os.urandom(16 << 20))
    return f'[source.s]\ntype = "files"\npaths = ["{tree}"]', ["--to", str(HOME / "restored")], lambda: None


def n8n(mb):
    directory = HOME / "n8n"
    directory.mkdir()
    (directory / "config").write_text('{"encryptionKey": "bench"}')
    database = sqlite3.connect(directory / "database.sqlite")
    database.execute("create table workflow_entity (id integer primary key, nodes blob)")
    database.execute("create table credentials_entity (id integer primary key, data text)")
    database.executemany("insert into workflow_entity (nodes) values (?)", ((os.urandom(100_000),) for _ in range(mb * 10)))
    database.commit()
    database.close()
    toml = f'[source.s]\ntype = "n8n"\ndirectory = "{directory}"\nscratch_directory = "{HOME}"'
    return toml, ["--to", str(HOME / "restored")], lambda: None


def rabbitmq(mb):
    url = urllib.parse.urlsplit(os.environ["KALEEM_TEST_RABBITMQ_URL"])
    address, vhost = f"http://{url.hostname}:{url.port}", "kaleem_memory"
    login = b64encode(f"{url.username}:{url.password}".encode()).decode()

    def call(method, path, body=None):
        headers = {"authorization": f"Basic {login}", "content-type": "application/json"}
        request = urllib.request.Request(f"{address}/api/{path}", json.dumps(body).encode() if body else None, headers, method=method)
        urllib.request.urlopen(request).read()

    count = mb * 200 // MB
    queues = [{"name": f"q{n}", "durable": True, "auto_delete": False, "arguments": {"x-max-length": n + 1}} for n in range(count)]
    bindings = [
        {"source": "amq.topic", "destination": f"q{n}", "destination_type": "queue", "routing_key": f"orders.{n}.#", "arguments": {}}
        for n in range(count)
    ]
    call("PUT", f"vhosts/{vhost}")
    call("POST", f"definitions/{vhost}", {"queues": queues, "bindings": bindings})
    secret = HOME / "rabbitmq.password"
    secret.write_text(url.password)
    secret.chmod(0o600)
    toml = f'[source.s]\ntype = "rabbitmq"\nurl = "{address}"\nusername = "{url.username}"\npassword = {{ file = "{secret}" }}'
    return toml, ["--in-place", "--yes", "--only", vhost], lambda: call("DELETE", f"vhosts/{vhost}")


def mongo(mb):
    import pymongo

    uri = os.environ["KALEEM_TEST_MONGO_URI"].rstrip("/")
    client = pymongo.MongoClient(uri)
    client.drop_database("kaleem_dr_memory")
    client.drop_database("kaleem_dr_memory_copy")
    rng = random.Random(3)
    for number in range(mb):
        batch = [{"_id": number * 1000 + n, "text": rng.randbytes(500).hex()} for n in range(1000)]
        client["kaleem_dr_memory"][f"c{number % 3}"].insert_many(batch)
    secret = HOME / "uri"
    secret.write_text(f"{uri}/kaleem_dr_memory")
    secret.chmod(0o600)
    return f'[source.s]\ntype = "mongodb"\nuri = {{ file = "{secret}" }}', ["--to", "kaleem_dr_memory_copy"], lambda: None


def peaks(make, mb):
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    password = HOME / "password"
    password.write_text("bench\n")
    password.chmod(0o600)
    source, target, lose = make(mb)
    config = HOME / "kaleem-dr.toml"
    config.write_text(
        f'state_directory = "{HOME}/state"\n[repository.local]\nlocation = "{HOME}/repository"\n'
        f'password = {{ file = "{password}" }}\n{source}\n'
    )
    subprocess.run([PROGRAM, "--quiet", "--config", str(config), "init"], check=True, stdout=subprocess.DEVNULL)
    exported = str(HOME / "exported")
    held = {
        "capture": peak(config, "backup"),
        "export": peak(config, "export", "s", "--output", exported),
        "verify": peak(config, "verify", "s"),
        "verify the export": peak(config, "verify", "s", "--from", exported),
    }
    lose()
    held["restore"] = peak(config, "restore", "s", *target)
    lose()
    return held


kinds = [files, n8n, rabbitmq, mongo]
if wanted := os.environ.get("BENCH_MEMORY_OF"):
    kinds = [kind for kind in kinds if kind.__name__ in wanted.split(",")]
print(f"{'':28}{f'{MB} MB':>12}{f'{10 * MB} MB':>12}")
for make in kinds:
    small, large = peaks(make, MB), peaks(make, 10 * MB)
    for what in small:
        print(f"{make.__name__:8}{what:20}{small[what]:9.0f} MB{large[what]:9.0f} MB{large[what] / small[what]:8.2f}", flush=True)
shutil.rmtree(HOME, ignore_errors=True)
