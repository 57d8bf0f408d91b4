"""Times what an operator asks often, with many snapshots in the repository: `status`, `checklist`, `doctor`.

    operate.py KALEEM_DR DIRECTORY

BENCH_SNAPSHOTS (1000) backups of a small tree are made first. Each command is run BENCH_ROUNDS (5) times; the median counts.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

PROGRAM, HOME = sys.argv[1], Path(sys.argv[2]).resolve() / "operate"
SNAPSHOTS = int(os.environ.get("BENCH_SNAPSHOTS", "1000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
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
    shutil.rmtree(HOME)


main()
