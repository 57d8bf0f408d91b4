"""A machine that a benchmark loses: its config, its secrets, and what an operator keeps of them elsewhere."""

import os


def secret(path, text):
    path.write_text(text)
    path.chmod(0o600)
    return path


def set_up(site, kept, bucket, mongo_uri, more=""):
    """Writes the config of a local repository with a mirror in a bucket, of the files in SITE/tree and of a MongoDB. `more` is TOML."""
    for name, value in (
        ("password", "bench"),
        ("mongo.uri", mongo_uri),
        ("key.id", os.environ["KALEEM_TEST_S3_KEY"]),
        ("key.secret", os.environ["KALEEM_TEST_S3_SECRET"]),
    ):
        secret(site / name, value)
        secret(kept / name, value)
    (site / "kaleem-dr.toml").write_text(
        f'host = "bench"\nstate_directory = "{site}/state"\ncache_directory = "{site}/cache"\n[tripwire]\nenabled = false\n'
        f'[repository.local]\nlocation = "{site}/repository"\npassword = {{ file = "{site}/password" }}\n'
        f'[repository.r2]\nlocation = "{bucket}"\nmirror_of = "local"\npassword = {{ file = "{site}/password" }}\n'
        f'access_key_id = {{ file = "{site}/key.id" }}\nsecret_access_key = {{ file = "{site}/key.secret" }}\n'
        f'[source.configs]\ntype = "files"\npaths = ["{site}/tree"]\n'
        f'[source.mongo]\ntype = "mongodb"\nuri = {{ file = "{site}/mongo.uri" }}\n{more}'
    )
