"""Times what an operator asks often, with many snapshots in the repository: `status`, `checklist`, `doctor`, and the pages of `serve`.

    operate.py KALEEM_DR DIRECTORY

BENCH_SNAPSHOTS (1000) backups of a small tree are made first. Each command is run BENCH_ROUNDS (5) times, and each page is read 20 times; the median counts.
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

PROGRAM, HOME = sys.argv[1], Path(sys.argv[2]).resolve() / "operate"
SNAPSHOTS = int(os.environ.get("BENCH_SNAPSHOTS", "1000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
TOKEN = "a-token-of-the-bench-" + "0" * 32
# 6: an item of a checklist fails; 1: doctor has a finding. Both are valid answers.
ANSWERS = {0, 1, 6}


def run(*args):
    began = time.perf_counter()
    done = subprocess.run(
        [PROGRAM, "--quiet", "--config", HOME / "kaleem-dr.toml", *args], capture_output=True, text=True, check=False
    )
    if done.returncode not in (ANSWERS if args[0] in ("status", "checklist", "doctor") else {0}):
        sys.exit(f"{' '.join(args)} ended with {done.returncode}: {done.stderr}")
    return time.perf_counter() - began


def main():
    shutil.rmtree(HOME, ignore_errors=True)
    tree = HOME / "tree"
    tree.mkdir(parents=True)
    for number in range(50):
        (tree / str(number)).write_text(f"{number}\n" * 100)
    password = HOME / "password"
    password.write_text("bench\n")
    password.chmod(0o600)
    (HOME / "kaleem-dr.toml").write_text(
        f'state_directory = "{HOME}/state"\n[tripwire]\nenabled = false\n'
        f'[repository.local]\nlocation = "{HOME}/repository"\npassword = {{ file = "{password}" }}\n'
        f'[source.configs]\ntype = "files"\npaths = ["{tree}"]\n'
    )
    run("init")
    for number in range(SNAPSHOTS):
        (tree / "counter").write_text(str(number))
        run("backup")
    print(f"{SNAPSHOTS} snapshots in the repository, median of {ROUNDS}:")
    for command in (["status"], ["checklist", "daily"], ["checklist", "weekly"], ["checklist", "monthly"], ["doctor"]):
        seconds = statistics.median(run(*command) for _ in range(ROUNDS))
        print(f"  kaleem-dr {' '.join(command):18} {seconds:6.3f} s")
    pages()
    shutil.rmtree(HOME)


def pages():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    token = HOME / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    server = subprocess.Popen(
        [PROGRAM, "--quiet", "--config", HOME / "kaleem-dr.toml", "serve", "--listen", address, "--token-file", token],
        stdout=subprocess.DEVNULL,
    )
    try:
        first = answered(address, "/", patience=30)
        print(f"the page, median and longest of 20; the first answer after the start took {first:.3f} s:")
        newest = json.loads(read(address, "/api/v1/points?limit=1"))["data"]
        if newest["total"] != SNAPSHOTS:
            sys.exit(f"the page shows {newest['total']} points instead of {SNAPSHOTS}")
        paths = ["/", "/points", f"/points?page={SNAPSHOTS // 50}", "/api/v1/points?limit=1000"]
        paths += ["/api/v1/snapshots?limit=1000", "/history", "/objectives"]
        for path in paths:
            took = sorted(answered(address, path) for _ in range(20))
            print(f"  {path:30} {took[10]:6.3f} s {took[-1]:6.3f} s")
    finally:
        server.terminate()
        server.wait()


def answered(address, path, patience=0):
    """Seconds until the answer has been read, tried again for as long as nobody listens yet."""
    deadline = time.perf_counter() + patience
    while True:
        began = time.perf_counter()
        try:
            read(address, path)
            return time.perf_counter() - began
        except ConnectionRefusedError:
            if time.perf_counter() > deadline:
                raise
            time.sleep(0.01)


def read(address, path):
    try:
        request = urllib.request.Request(f"http://{address}{path}", headers={"authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request) as answer:
            return answer.read()
    except urllib.error.URLError as error:
        if isinstance(error.reason, OSError):
            raise error.reason from None
        raise


main()
