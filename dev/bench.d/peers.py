"""Runs kaleem-dr and stock restic over the same data, alternated, and prints medians and their ratio.

    peers.py KALEEM_DR DIRECTORY

CPU seconds and peak memory are the kernel's (wait4). The sample is made from a fixed seed. Results go to results.json.
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

PROGRAM, HOME = sys.argv[1], Path(sys.argv[2])
MB = int(os.environ.get("BENCH_MB", "500"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SMALL = int(os.environ.get("BENCH_SMALL_FILES", "100000"))
PASSWORD = HOME / "password"
results = {}


def sample(tree):
    """Two fifths in small text files, the rest in larger ones: half of that text, half noise."""
    away(tree)
    rng = random.Random(7)
    words = [f"{rng.getrandbits(36):x}" for _ in range(4000)]

    def text(size):
        return " ".join(rng.choices(words, k=size // 9 + 1)).encode()[:size]

    left, number = MB * 1_000_000 * 2 // 5, 0
    while left > 0:
        size = min(left, int(rng.lognormvariate(9, 1.5)) + 1)
        path = tree / f"small/{number % 100:02}/{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text(size))
        left, number = left - size, number + 1
    (tree / "large").mkdir(parents=True)
    left, number = MB * 1_000_000 * 3 // 5, 0
    while left > 0:
        size = min(left, 20_000_000)
        content = text(size) if number % 2 else rng.randbytes(size)
        (tree / f"large/{number}.bin").write_bytes(content)
        left, number = left - size, number + 1


def change(tree):
    """About one file in a hundred."""
    for number, path in enumerate(sorted(tree.rglob("*.txt"))):
        if number % 100 == 0:
            path.write_bytes(path.read_bytes()[::-1])
    with open(tree / "large/0.bin", "r+b") as file:
        file.seek(9_000_000)
        file.write(random.Random(8).randbytes(1000))


# The peak memory of a process includes its parent's memory at the fork, so a small helper process forks it.
MEASURE = """
import json, os, subprocess, sys, time
began = time.monotonic()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
wall = time.monotonic() - began
cpu = usage.ru_utime + usage.ru_stime
print(json.dumps({"status": status, "wall_s": wall, "cpu_s": cpu, "peak_mb": usage.ru_maxrss / 1024}))
"""


def run(what, who, command, env):
    os.sync()
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, *command], env={**os.environ, **env}, stdout=subprocess.PIPE, check=True
    )
    figures = json.loads(measured.stdout)
    status = figures.pop("status")
    if status != 0:
        sys.exit(f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    results.setdefault(what, {}).setdefault(who, []).append(figures)


def config(repository, source):
    path = HOME / "kaleem-dr.toml"
    path.write_text(
        f'state_directory = "{HOME}/state"\n[repository.local]\nlocation = "{repository}"\n'
        f'password = {{ file = "{PASSWORD}" }}\n{source}\n'
    )
    return path


def small_files(tree):
    """Files of 200 to 400 bytes, a hundred in each directory."""
    away(tree)
    rng = random.Random(7)
    for number in range(SMALL):
        path = tree / f"{number // 100 // 50}/{number // 100 % 50}/{number}"
        if number % 100 == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.randint(100, 200)).hex().encode())


def away(path):
    """Moves a tree away. It is deleted at the end: for minutes after many files were deleted, ext4 creates new ones slowly."""
    if path.exists():
        path.rename(path.with_name(f"old-{time.monotonic_ns()}"))


def files(tree, make, suffix=""):
    for number in range(ROUNDS):
        make(tree)
        repositories = {}
        order = ["kaleem-dr", "restic"] if number % 2 == 0 else ["restic", "kaleem-dr"]
        commands = {}
        for who in order:
            repository = HOME / f"{who}-repository"
            shutil.rmtree(repository, ignore_errors=True)
            shutil.rmtree(HOME / f"{who}-cache", ignore_errors=True)
            repositories[who] = repository
        toml = config(repositories["kaleem-dr"], f'[source.tree]\ntype = "files"\npaths = ["{tree}"]')
        ours = [PROGRAM, "--quiet", "--config", str(toml)]
        stock = ["restic", "--quiet", "--repo", str(repositories["restic"])]
        env = {"RESTIC_PASSWORD_FILE": str(PASSWORD), "RESTIC_CACHE_DIR": str(HOME / "restic-cache")}
        subprocess.run([*ours, "init"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*stock, "init", "--repository-version", "2"], check=True, env={**os.environ, **env})
        target = HOME / "restored"
        commands = [
            ("first backup", [*ours, "backup"], [*stock, "backup", str(tree)]),
            ("nothing changed", [*ours, "backup"], [*stock, "backup", str(tree)]),
            ("1 % changed", [*ours, "backup"], [*stock, "backup", str(tree)]),
            (
                "restore",
                [*ours, "restore", "files", "--target", str(target), "--no-verify"],
                [*stock, "restore", "latest", "--target", str(target)],
            ),
            (
                "restore, verified",
                [*ours, "restore", "files", "--target", str(target)],
                [*stock, "restore", "latest", "--target", str(target), "--verify"],
            ),
            ("check, all data", [*ours, "check", "--read-data"], [*stock, "check", "--read-data"]),
            ("verify | check, all data", [*ours, "verify"], [*stock, "check", "--read-data"]),
            ("drill | restore", [*ours, "drill"], [*stock, "restore", "latest", "--target", str(target)]),
        ]
        for what, our_command, stock_command in commands:
            if what == "1 % changed":
                if suffix:
                    continue
                change(tree)
            # A drill deletes its own scratch directory, so it comes last.
            for who in sorted(order, reverse=True) if what.startswith("drill") else order:
                away(target)
                run(what + suffix, who, our_command if who == "kaleem-dr" else stock_command, env)
        away(target)


def mongo(uri):
    import pymongo

    client, name = pymongo.MongoClient(uri), "kaleem_dr_bench"
    client.drop_database(name)
    rng = random.Random(9)
    words = [f"{rng.getrandbits(40):x}" for _ in range(5000)]
    for collection, count in (("events", 120_000), ("people", 80_000), ("orders", 50_000)):
        for start in range(0, count, 5000):
            client[name][collection].insert_many(
                {"_id": n, "name": rng.choice(words), "text": " ".join(rng.choices(words, k=84)), "n": rng.getrandbits(60)}
                for n in range(start, min(count, start + 5000))
            )
        client[name][collection].create_index([("name", 1), ("n", -1)])
    reader = Path(PROGRAM).parent / "examples" / "read_mongodb"
    dump, restore = shutil.which("mongodump"), shutil.which("mongorestore")
    for _ in range(ROUNDS):
        run("mongo: read alone", "kaleem-dr", [str(reader)], {"MONGO_URI": f"{uri.rstrip('/')}/{name}"})
        if dump:
            run("mongo: read alone", "mongodump", [dump, "--quiet", f"--uri={uri.rstrip('/')}/{name}", "--archive=/dev/null"], {})
    secret = HOME / "mongo.uri"
    secret.write_text(f"{uri.rstrip('/')}/{name}")
    secret.chmod(0o600)
    repository = HOME / "mongo-repository"
    shutil.rmtree(repository, ignore_errors=True)
    toml = config(repository, f'[source.mongo]\ntype = "mongodb"\nuri = {{ file = "{secret}" }}')
    ours = [PROGRAM, "--quiet", "--config", str(toml)]
    subprocess.run([*ours, "init"], check=True, stdout=subprocess.DEVNULL)
    sizes = [0]
    for what in ("mongo: first backup", "mongo: nothing changed"):
        run(what, "kaleem-dr", [*ours, "backup"], {})
        sizes.append(sum(path.stat().st_size for path in repository.rglob("*") if path.is_file()))
    archive = HOME / "mongo.archive"
    if restore:
        subprocess.run([dump, "--quiet", f"--uri={uri.rstrip('/')}/{name}", f"--archive={archive}"], check=True)
    for _ in range(ROUNDS):
        client.drop_database(f"{name}_copy")
        run("mongo: restore, compared", "kaleem-dr", [*ours, "restore", "mongo", "--to", f"{name}_copy"], {})
        client.drop_database(f"{name}_copy")
        if restore:
            names = [f"--nsFrom={name}.*", f"--nsTo={name}_copy.*"]
            run("mongo: restore, compared", "mongorestore", [restore, "--quiet", f"--uri={uri}", f"--archive={archive}", *names], {})
    archive.unlink(missing_ok=True)
    client.drop_database(f"{name}_copy")
    client.drop_database(name)
    first, second = sizes[1], sizes[2] - sizes[1]
    print(f"mongo: the second night added {second} bytes, {second / first:.2%} of the first's {first}")


HOME.mkdir(parents=True, exist_ok=True)
PASSWORD.write_text("bench\n")
PASSWORD.chmod(0o600)
files(HOME / "tree", sample)
if SMALL:
    files(HOME / "tree", small_files, f", {SMALL} small files")
away(HOME / "tree")
for old in HOME.glob("old-*"):
    shutil.rmtree(old)
if os.environ.get("KALEEM_BENCH_MONGO_URI"):
    mongo(os.environ["KALEEM_BENCH_MONGO_URI"])
(HOME / "results.json").write_text(json.dumps({"mb": MB, "rounds": ROUNDS, "results": results}, indent=1))

print(f"\n{MB} MB, medians of {ROUNDS} alternated rounds")
print(f"{'':52}{'':12}{'wall s':>9}{'MB/s':>8}{'CPU s':>8}{'peak MB':>9}")
for what, by in results.items():
    medians = {who: {key: statistics.median(one[key] for one in ones) for key in ones[0]} for who, ones in by.items()}
    for who, median in medians.items():
        print(f"{what:52}{who:12}{median['wall_s']:9.2f}{MB / median['wall_s']:8.0f}{median['cpu_s']:8.2f}{median['peak_mb']:9.0f}")
    if len(medians) == 2:
        peer = next(who for who in medians if who != "kaleem-dr")
        ours, stock = medians["kaleem-dr"], medians[peer]
        print(
            f"{'':52}{peer + '/ours':12}{stock['wall_s'] / ours['wall_s']:9.2f}{'':8}{stock['cpu_s'] / ours['cpu_s']:8.2f}"
            f"{stock['peak_mb'] / ours['peak_mb']:9.2f}"
        )
