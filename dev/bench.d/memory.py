"""Prints the most memory a capture, an export, a verification and a restore hold, at one size and at ten times it.

    memory.py KALEEM_DR DIRECTORY

The peaks are the kernel's (wait4). BENCH_MEMORY_MB is the smaller size. Files and n8n; with KALEEM_BENCH_MONGO_URI MongoDB too.
"""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
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
    return f'[source.s]\ntype = "files"\npaths = ["{tree}"]', str(HOME / "restored")


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
    return toml, str(HOME / "restored")


def mongo(mb):
    import pymongo

    uri = os.environ["KALEEM_BENCH_MONGO_URI"].rstrip("/")
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
    return f'[source.s]\ntype = "mongodb"\nuri = {{ file = "{secret}" }}', "kaleem_dr_memory_copy"


def peaks(make, mb):
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    password = HOME / "password"
    password.write_text("bench\n")
    password.chmod(0o600)
    source, target = make(mb)
    config = HOME / "kaleem-dr.toml"
    config.write_text(
        f'state_directory = "{HOME}/state"\n[repository.local]\nlocation = "{HOME}/repository"\n'
        f'password = {{ file = "{password}" }}\n{source}\n'
    )
    subprocess.run([PROGRAM, "--quiet", "--config", str(config), "init"], check=True, stdout=subprocess.DEVNULL)
    exported = str(HOME / "exported")
    return {
        "capture": peak(config, "backup"),
        "export": peak(config, "export", "s", "--output", exported),
        "verify": peak(config, "verify", "s"),
        "verify the export": peak(config, "verify", "s", "--from", exported),
        "restore": peak(config, "restore", "s", "--to", target),
    }


kinds = [files, n8n] + ([mongo] if os.environ.get("KALEEM_BENCH_MONGO_URI") else [])
if wanted := os.environ.get("BENCH_MEMORY_OF"):
    kinds = [kind for kind in kinds if kind.__name__ in wanted.split(",")]
print(f"{'':28}{f'{MB} MB':>12}{f'{10 * MB} MB':>12}")
for make in kinds:
    small, large = peaks(make, MB), peaks(make, 10 * MB)
    for what in small:
        print(f"{make.__name__:8}{what:20}{small[what]:9.0f} MB{large[what]:9.0f} MB{large[what] / small[what]:8.2f}", flush=True)
shutil.rmtree(HOME, ignore_errors=True)
