"""Times `bootstrap` and `recover` next to the same recovery with scripts and other tools, on the same data and servers.

    recover.py KALEEM_DR DIRECTORY

Both begin with a bucket, empty servers and no files. The scripts: `restic restore` from the bucket, `mongorestore --archive --gzip
--drop`, `curl` for RabbitMQ's definitions, `tar -xzf` for the files; they compare nothing and fill no local repository. Ours: `bootstrap`
and `recover`, which fills the local repository from the bucket, restores, and compares everything. BENCH_RECOVER_MB (100) of files and as
much in MongoDB, BENCH_ROUNDS (3) alternated rounds, medians. mongodump, mongorestore, restic, curl and tar must be on the PATH. The servers
are those of dev/up, or KALEEM_BENCH_MONGO_URI.
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import lost_machine
import pymongo

PROGRAM, HOME = sys.argv[1], Path(sys.argv[2]).resolve() / "recover"
SIZE = int(os.environ.get("BENCH_RECOVER_MB", "100")) * 1_000_000
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
MONGO = os.environ.get("KALEEM_BENCH_MONGO_URI") or os.environ["KALEEM_TEST_MONGO_URI"]
BROKER = urllib.parse.urlsplit(os.environ["KALEEM_TEST_RABBITMQ_URL"])
BROKER_URL = f"http://{BROKER.hostname}:{BROKER.port}"
BUCKET = f"s3:{os.environ['KALEEM_TEST_S3_ENDPOINT']}/{os.environ['KALEEM_TEST_S3_BUCKET']}/bench-recover-{os.getpid()}"
SITE, KEPT, STAGED = HOME / "site", HOME / "kept", HOME / "staged"
TREE, DATABASE, VHOST = SITE / "tree", "kaleem_bench_recover", "bench-recover"
ENV = {
    **os.environ,
    "AWS_ACCESS_KEY_ID": os.environ["KALEEM_TEST_S3_KEY"],
    "AWS_SECRET_ACCESS_KEY": os.environ["KALEEM_TEST_S3_SECRET"],
    "RESTIC_PASSWORD_FILE": str(KEPT / "password"),
    "RESTIC_CACHE_DIR": str(HOME / "restic-cache"),
}
LOGIN = f"{BROKER.username}:{BROKER.password}"


def call(*args):
    done = subprocess.run([str(arg) for arg in args], capture_output=True, text=True, check=False, env=ENV)
    if done.returncode != 0:
        sys.exit(f"{args[0]} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def ours(*args):
    return call(PROGRAM, "--quiet", "--config", SITE / "kaleem-dr.toml", *args)


def curl(method, path, *more):
    return call("curl", "-sSf", "-u", LOGIN, "-X", method, f"{BROKER_URL}/api/{path}", *more)


def sample(client):
    """Files of all sizes and documents of 400 to 1,600 bytes; about half of both compresses."""
    rng = random.Random(7)
    words = [f"{rng.getrandbits(36):x}" for _ in range(4000)]

    def text(size):
        return " ".join(rng.choices(words, k=size // 9 + 1))[:size]

    left, number = SIZE, 0
    while left > 0:
        size = min(left, int(rng.lognormvariate(10, 1.6)) + 1)
        path = TREE / f"{number % 60:02}" / f"{number}.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text(size).encode() if number % 2 else rng.randbytes(size))
        left, number = left - size, number + 1
    database = client[DATABASE]
    for name in ("users", "messages", "documents", "audit"):
        collection = database[name]
        for start in range(0, SIZE // 4000, 1000):
            collection.insert_many([{"_id": number, "text": text(rng.randint(400, 1600)), "n": number % 97} for number in range(start, start + 1000)])
        collection.create_index("n")
    curl("PUT", f"vhosts/{VHOST}")
    for number in range(50):
        body = ("-H", "content-type: application/json", "-d", '{"durable": true}')
        curl("PUT", f"queues/{VHOST}/queue-{number}", *body)


def set_up(client):
    shutil.rmtree(HOME, ignore_errors=True)
    for directory in (SITE, KEPT, STAGED):
        directory.mkdir(parents=True)
    client.drop_database(DATABASE)
    sample(client)
    for directory in (SITE, KEPT):
        lost_machine.secret(directory / "rabbitmq.pass", BROKER.password)
    broker = (
        f'[source.rabbitmq]\ntype = "rabbitmq"\nurl = "{BROKER_URL}"\nusername = "{BROKER.username}"\n'
        f'password = {{ file = "{SITE}/rabbitmq.pass" }}\n'
    )
    lost_machine.set_up(SITE, KEPT, f"{BUCKET}-ours", f"{MONGO}{DATABASE}", broker)
    ours("init")
    ours("backup")
    ours("replicate")
    # The scripts' backup.
    call("mongodump", f"--uri={MONGO}{DATABASE}", f"--archive={STAGED}/mongo.archive.gz", "--gzip")
    (STAGED / "definitions.json").write_text(curl("GET", f"definitions/{VHOST}"))
    call("tar", "-czf", STAGED / "configs.tar.gz", "-C", "/", str(TREE).lstrip("/"))
    call("restic", "-q", "-r", f"{BUCKET}-scripts", "init")
    call("restic", "-q", "-r", f"{BUCKET}-scripts", "backup", STAGED)


def lose(client):
    # Only moved away: for minutes after many files were deleted, ext4 creates new ones slowly, which no real recovery meets.
    SITE.rename(HOME / f"lost-{time.monotonic_ns()}")
    SITE.mkdir()
    shutil.rmtree(HOME / "restic-cache", ignore_errors=True)
    if (HOME / "restored").exists():
        (HOME / "restored").rename(HOME / f"restored-{time.monotonic_ns()}")
    client.drop_database(DATABASE)
    curl("DELETE", f"vhosts/{VHOST}")
    os.sync()


def by_scripts(steps):
    restored = HOME / "restored"

    def step(name, *args):
        began = time.perf_counter()
        call(*args)
        steps.setdefault(name, []).append(time.perf_counter() - began)

    step("restic restore", "restic", "-q", "-r", f"{BUCKET}-scripts", "restore", "latest", "--target", restored)
    staged = restored / str(STAGED).lstrip("/")
    step("mongorestore", "mongorestore", f"--uri={MONGO}", "--archive=" + str(staged / "mongo.archive.gz"), "--gzip", "--drop")
    began = time.perf_counter()
    curl("PUT", f"vhosts/{VHOST}")
    curl("POST", f"definitions/{VHOST}", "-H", "content-type: application/json", "-d", f"@{staged}/definitions.json")
    steps.setdefault("curl", []).append(time.perf_counter() - began)
    step("tar", "tar", "-xzf", staged / "configs.tar.gz", "-C", "/")


def by_recover(steps):
    began = time.perf_counter()
    ours(
        *("bootstrap", "--from", f"{BUCKET}-ours", "--password-file", KEPT / "password"),
        *("--key-id-file", KEPT / "key.id", "--secret-key-file", KEPT / "key.secret"),
        f"--secret=source.mongo.uri={KEPT / 'mongo.uri'}",
        f"--secret=source.rabbitmq.password={KEPT / 'rabbitmq.pass'}",
    )
    steps.setdefault("bootstrap", []).append(time.perf_counter() - began)
    began = time.perf_counter()
    report = json.loads(ours("--json", "recover", "--yes").splitlines()[-1])
    took = time.perf_counter() - began
    for line in report["results"]["sources"]:
        steps.setdefault(f"recover: {line['source']}", []).append(line["seconds"])
    parts = {line["source"]: line["seconds"] for line in report["results"]["sources"]}
    restores = parts["configs"] + max(parts["mongo"], parts["rabbitmq"])
    steps.setdefault("recover: repository, history, mirrors", []).append(took - restores)


def check(client, documents, files):
    found = sum(client[DATABASE][name].estimated_document_count() for name in client[DATABASE].list_collection_names())
    there = sum(1 for path in TREE.rglob("*.dat"))
    if (found, there) != (documents, files):
        sys.exit(f"{found} documents and {there} files are there instead of {documents} and {files}")


def main():
    for tool in ("mongodump", "mongorestore", "restic", "curl", "tar"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not installed")
    client = pymongo.MongoClient(MONGO)
    set_up(client)
    documents = sum(client[DATABASE][name].count_documents({}) for name in client[DATABASE].list_collection_names())
    files = sum(1 for _ in TREE.rglob("*.dat"))
    print(f"{SIZE / 1e6:.0f} MB in {files} files, {documents} documents, 50 queues; median of {ROUNDS} alternated rounds")
    ways = {"scripts": (by_scripts, {}, []), "bootstrap and recover": (by_recover, {}, [])}
    for number in range(ROUNDS):
        for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
            way, steps, times = ways[name]
            lose(client)
            began = time.perf_counter()
            way(steps)
            times.append(time.perf_counter() - began)
            check(client, documents, files)
    for name, (_, steps, times) in ways.items():
        print(f"  {name:40} {statistics.median(times):7.2f} s")
        for step, seconds in steps.items():
            print(f"    {step:38} {statistics.median(seconds):7.2f} s")
    ratio = statistics.median(ways["bootstrap and recover"][2]) / statistics.median(ways["scripts"][2])
    print(f"  bootstrap and recover / scripts: {ratio:.2f}")
    client.drop_database(DATABASE)
    curl("DELETE", f"vhosts/{VHOST}")
    shutil.rmtree(HOME)


main()
