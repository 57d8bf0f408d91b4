"""Compares the forecast of a recovery with the time that it takes.

    forecast.py KALEEM_DR DIRECTORY

File trees and a MongoDB, of 1 to 10 times BENCH_FORECAST_MB (8) MB each. After two drills, at BENCH_FORECAST_DRILLS (1,3) times that
size, the machine is lost and recovered ten times, from a mirror in a bucket, at all ten sizes in an order that BENCH_SEED (1) selects.
Between them, the sources change and are backed up, and nothing else is measured: each machine knows what the lost one knew.
The servers are those of dev/up.
"""

import datetime
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import lost_machine
import pymongo

PROGRAM, HOME = sys.argv[1], Path(sys.argv[2]).resolve() / "forecast"
UNIT = int(os.environ.get("BENCH_FORECAST_MB", "8")) * 1_000_000
DRILLS = [int(scale) for scale in os.environ.get("BENCH_FORECAST_DRILLS", "1,3").split(",")]
SEED = int(os.environ.get("BENCH_SEED", "1"))
WITHIN_PERCENT = 20
MONGO = os.environ["KALEEM_TEST_MONGO_URI"]
BUCKET = f"s3:{os.environ['KALEEM_TEST_S3_ENDPOINT']}/{os.environ['KALEEM_TEST_S3_BUCKET']}/bench-forecast-{os.getpid()}"
SITE, KEPT = HOME / "site", HOME / "kept"
DATABASE = "kaleem_bench_forecast"
DOCUMENT, FILE = 1_000, 40_000
COLLECTIONS = ("users", "messages", "documents", "audit")


def run(*args):
    done = subprocess.run(
        [PROGRAM, "--quiet", "--config", SITE / "kaleem-dr.toml", *map(str, args)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, args))} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def text(rng, size):
    """Half of it compresses."""
    return rng.randbytes(size // 4).hex() + " " * (size - size // 4 * 2)


def fill_files(scale):
    tree = SITE / "tree"
    wanted = UNIT * scale // FILE
    for number in range(wanted):
        path = tree / f"{number % 50:02}" / f"{number}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text(random.Random(f"file {number}"), FILE))
    for path in tree.glob("*/*"):
        if int(path.name) >= wanted:
            path.unlink()


def fill_mongo(database, scale):
    wanted = UNIT * scale // DOCUMENT // len(COLLECTIONS)
    for name in COLLECTIONS:
        collection = database[name]
        collection.delete_many({"_id": {"$gte": wanted}})
        there = collection.count_documents({})
        for start in range(there, wanted, 1000):
            numbers = range(start, min(start + 1000, wanted))
            collection.insert_many(
                [{"_id": number, "text": text(random.Random(f"{name} {number}"), DOCUMENT - 40)} for number in numbers]
            )


def set_up():
    shutil.rmtree(HOME, ignore_errors=True)
    SITE.mkdir(parents=True)
    KEPT.mkdir()
    lost_machine.set_up(SITE, KEPT, BUCKET, f"{MONGO}{DATABASE}")
    run("init")


def lose(client):
    """The files are only moved away: for minutes after many were deleted, ext4 creates new ones slowly, which no real recovery meets."""
    SITE.rename(HOME / f"lost-{time.monotonic_ns()}")
    SITE.mkdir()
    client.drop_database(DATABASE)


def bootstrap():
    run(
        *("bootstrap", "--from", BUCKET, "--password-file", KEPT / "password"),
        *("--key-id-file", KEPT / "key.id", "--secret-key-file", KEPT / "key.secret"),
        f"--secret=source.mongo.uri={KEPT / 'mongo.uri'}",
    )


def last(output):
    return json.loads(output.splitlines()[-1])


def seconds(text):
    """Of a time in UTC, with nanoseconds."""
    return datetime.datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp()


def main():
    client = pymongo.MongoClient(MONGO)
    client.drop_database(DATABASE)
    set_up()
    for scale in DRILLS:
        fill_files(scale)
        fill_mongo(client[DATABASE], scale)
        run("backup")
        run("replicate")
        run("drill")
    scales = list(range(1, 11))
    random.Random(SEED).shuffle(scales)
    print(f"forecast of recoveries after drills at {', '.join(f'{scale}x' for scale in DRILLS)}; 1x is {UNIT / 1e6:.0f} MB of files and as much in MongoDB")
    print("  size   data      forecast   took       error     configs: forecast, took   mongo: forecast, took")
    errors = []
    for scale in scales:
        fill_files(scale)
        fill_mongo(client[DATABASE], scale)
        run("backup")
        run("replicate")
        lose(client)
        bootstrap()
        plan = last(run("--json", "recover", "--dry-run"))
        report = last(run("--json", "recover", "--yes"))
        took = seconds(report["results"]["finished"]) - seconds(report["results"]["started"])
        forecast = plan["forecast"]["seconds"]
        errors.append((forecast - took) / took * 100)
        of = {planned["source"]: planned["forecast"]["seconds"] for planned in plan["sources"]}
        parts = {line["source"]: line["seconds"] for line in report["results"]["sources"]}
        size = sum(planned["size_bytes"] for planned in plan["sources"])
        each = "".join(f"{of[name]:10.2f} s {parts[name]:8.2f} s   " for name in ("configs", "mongo"))
        print(f"  {scale:3}x {size / 1e6:6.0f} MB {forecast:9.2f} s {took:7.2f} s {errors[-1]:+8.0f} % {each}", flush=True)
    within = sum(abs(error) <= WITHIN_PERCENT for error in errors)
    print(f"  {within} of {len(errors)} within {WITHIN_PERCENT} %; median of the errors {statistics.median(map(abs, errors)):.0f} %, largest {max(map(abs, errors)):.0f} %")
    client.drop_database(DATABASE)
    shutil.rmtree(HOME)


main()
