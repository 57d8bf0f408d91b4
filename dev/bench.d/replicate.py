"""Runs `kaleem-dr replicate` and `rclone sync` over the same repository and the same S3 server, alternated; prints medians and ratios.

    replicate.py KALEEM_DR RCLONE DIRECTORY

CPU seconds and peak memory are the kernel's (wait4); requests are what the server counted. BENCH_MB is the size of the sample,
BENCH_ROUNDS how often each is run. With BENCH_LARGE_GB, one more pass of ours over as many GiB of sparse objects, for its memory.
"""

import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import urllib.request
from pathlib import Path

PROGRAM, RCLONE, HOME = sys.argv[1], sys.argv[2], Path(sys.argv[3]) / "replicate"
MB = int(os.environ.get("BENCH_MB", "500"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
LARGE_GB = int(os.environ.get("BENCH_LARGE_GB", "0"))
S3 = {name: os.environ[f"KALEEM_TEST_S3_{name}"] for name in ("ENDPOINT", "BUCKET", "KEY", "SECRET", "METRICS")}
results = {}

# The peak memory of a process includes its parent's memory at the fork, so a small helper process forks it.
MEASURE = """
import json, os, subprocess, sys, time
began = time.monotonic()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
wall = time.monotonic() - began
print(json.dumps({"status": status, "wall_s": wall, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1024}))
"""


def requests():
    """S3 requests the server has answered."""
    text = urllib.request.urlopen(S3["METRICS"]).read().decode()
    lines = (line for line in text.splitlines() if line.startswith("SeaweedFS_s3_request_total"))
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def run(what, who, command):
    os.sync()
    before = requests()
    measured = subprocess.run([sys.executable, "-c", MEASURE, *command], stdout=subprocess.PIPE, check=True)
    figures = json.loads(measured.stdout)
    if figures.pop("status") != 0:
        sys.exit(f"{command} failed")
    figures["requests"] = requests() - before
    results.setdefault(what, {}).setdefault(who, []).append(figures)


def secret(name, text):
    path = HOME / name
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


def write_configs(number, repository, tree):
    password, key, key_secret = secret("password", "bench"), secret("s3.key", S3["KEY"]), secret("s3.secret", S3["SECRET"])
    (HOME / "kaleem-dr.toml").write_text(
        f'state_directory = "{HOME}/state-{number}"\n'
        f'[repository.local]\nlocation = "{repository}"\npassword = {{ file = "{password}" }}\n'
        f'[repository.far]\nlocation = "s3://{S3["BUCKET"]}/bench-{os.getpid()}-{number}/ours"\nendpoint = "{S3["ENDPOINT"]}"\n'
        f'access_key_id = {{ file = "{key}" }}\nsecret_access_key = {{ file = "{key_secret}" }}\n'
        f'password = {{ file = "{password}" }}\nmirror_of = "local"\n'
        f'[source.tree]\ntype = "files"\npaths = ["{tree}"]\n'
    )
    secret(
        "rclone.conf",
        f"[s3]\ntype = s3\nprovider = Other\naccess_key_id = {S3['KEY']}\nsecret_access_key = {S3['SECRET']}\nendpoint = {S3['ENDPOINT']}",
    )


def ours(*args):
    return [PROGRAM, "--quiet", "--config", str(HOME / "kaleem-dr.toml"), *args]


def one_round(number):
    shutil.rmtree(HOME, ignore_errors=True)
    repository, tree = HOME / "repository", HOME / "tree"
    tree.mkdir(parents=True)
    rng = random.Random(number)
    for at in range(MB):
        (tree / f"{at}").write_bytes(rng.randbytes(1_000_000))
    write_configs(number, repository, tree)
    subprocess.run(ours("init"), check=True, stdout=subprocess.DEVNULL)
    subprocess.run(ours("backup"), check=True, stdout=subprocess.DEVNULL)
    target = f"s3:{S3['BUCKET']}/bench-{os.getpid()}-{number}/rclone"
    theirs = [RCLONE, "--config", str(HOME / "rclone.conf"), "sync", str(repository), target]
    order = ["kaleem-dr", "rclone"] if number % 2 == 0 else ["rclone", "kaleem-dr"]
    for what in ("all new", "nothing changed", "1 % changed"):
        if what == "1 % changed":
            for at in range(0, MB, 100):
                (tree / f"{at}").write_bytes(rng.randbytes(1_000_000))
            subprocess.run(ours("backup"), check=True, stdout=subprocess.DEVNULL)
        for who in order:
            run(what, who, ours("replicate") if who == "kaleem-dr" else theirs)


def large():
    """Sparse packs, each with a head of its own. Nothing of it is a repository but its names, which is all a mirror looks at."""
    shutil.rmtree(HOME, ignore_errors=True)
    repository = HOME / "repository"
    for directory in ("keys", "index", "snapshots", "locks", "data"):
        (repository / directory).mkdir(parents=True)
    (repository / "config").write_bytes(os.urandom(155))
    for directory in ("keys", "index", "snapshots"):
        content = os.urandom(400)
        (repository / directory / hashlib.sha256(content).hexdigest()).write_bytes(content)
    tail, size = bytes(1 << 20), 16 << 20
    for number in range(LARGE_GB * 64):
        head = number.to_bytes(8, "big")
        digest = hashlib.sha256(head + tail[8:])
        for _ in range(15):
            digest.update(tail)
        name = digest.hexdigest()
        path = repository / "data" / name[:2] / name
        path.parent.mkdir(exist_ok=True)
        with open(path, "wb") as pack:
            pack.write(head)
            pack.truncate(size)
    write_configs(999, repository, HOME)
    run(f"{LARGE_GB} GiB, sparse", "kaleem-dr", ours("replicate"))


for number in range(ROUNDS):
    one_round(number)
if LARGE_GB:
    large()
shutil.rmtree(HOME, ignore_errors=True)
print(f"{'':18}{'':11}{'wall':>9}{'CPU':>9}{'peak':>10}{'requests':>10}")
for what, by in results.items():
    median = {who: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for who, runs in by.items()}
    for who, figures in median.items():
        print(
            f"{what:18}{who:11}{figures['wall_s']:7.2f} s{figures['cpu_s']:7.2f} s{figures['peak_mb']:7.0f} MB{figures['requests']:10.0f}"
        )
    if "rclone" in median:
        ratio = {key: median["rclone"][key] / max(median["kaleem-dr"][key], 1e-9) for key in ("wall_s", "cpu_s", "requests")}
        print(f"{'':18}rclone/ours  wall {ratio['wall_s']:.2f}, CPU {ratio['cpu_s']:.2f}, requests {ratio['requests']:.2f}")
