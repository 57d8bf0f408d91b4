//! The config that `config init` writes.

/// A commented config as a starting point. It is valid except for the paths and secrets that it
/// names.
pub const TEMPLATE: &str = r#"# kaleem-dr. `kaleem-dr config check` checks it; `kaleem-dr config schema` prints every key.
# A secret is never written here: name a file that only its owner may read, an environment variable, or a systemd credential:
#   { file = "/etc/restic.pass" }   { env = "MONGO_URI" }   { credential = "mongo-uri" }
# KALEEM_DR__SECTION__KEY in the environment overrides a key.

state_directory = "/var/lib/kaleem-dr"

[repository.local]
location = "/backups/restic-local"
password = { file = "/etc/restic.pass" }

# [repository.r2]   # off site: `kaleem-dr --repo r2 r2 check` tests the bucket
# location = "s3:https://ACCOUNT.r2.cloudflarestorage.com/kaleem-backup/restic"   # or an rclone remote: "rclone:r2:kaleem-backup/restic"
# password = { file = "/etc/restic.pass" }
# access_key_id = { file = "/etc/kaleem-dr/r2.id" }        # 32 hex digits, of a token with "Object Read & Write"
# secret_access_key = { file = "/etc/kaleem-dr/r2.key" }   # 64
# upload_limit = "2 MiB/s"
# mirror_of = "local"   # a mirror, updated object by object by `kaleem-dr replicate`. Without it, r2 is a repository with its own id:
#                       # `kaleem-dr --repo r2 init --copy-chunker-params local`, then `copy`, or `also = ["r2"]` in [backup]
# tags = ["r2", "server:{host}"]

[backup]
forget = true     # forget by [retention] after each run
prune = true      # and delete data that no snapshot needs
# also = ["r2"]   # secondary repositories that receive a copy of each snapshot

[retention]       # per host and source
keep_daily = 7
keep_weekly = 4
keep_monthly = 6

[staged]          # each source's point as a plain file too: /backups/mongo/mongo-<DATE>.archive.gz, …
directory = "/backups"
keep = 7
min_free_percent = 10

[status]
max_age_hours = 26

[objectives]      # `status` ends with 6 if these are exceeded
rpo_hours = 26    # maximum age of the newest proven data: a day, plus the time until it is proven
rto_hours = 3     # maximum duration of a full restore, as measured by drills

# [monitoring.healthchecks]   # `kaleem-dr notify test` sends a test to every recipient
# ping_key = { file = "/etc/kaleem-dr/healthchecks.key" }   # checks `kaleem-dr-backup`, `kaleem-dr-backup-mongo`, …
# create = true                                             # let the server create them
# checks = { backup = { file = "/etc/kaleem-dr/backup.hc" }, "backup/mongo" = { file = "/etc/kaleem-dr/mongo.hc" } }   # or their ping URLs

# [[monitoring.webhook]]
# url = { file = "/etc/kaleem-dr/webhook.url" }
# on = ["failure", "recovery"]

# [[monitoring.email]]
# server = "smtp.example.org"
# username = "backup"
# password = { file = "/etc/kaleem-dr/smtp.pass" }
# from = "backup@example.org"
# to = ["ops@example.org"]

# [[monitoring.chat]]
# service = "slack"   # or discord, mattermost, teams; also [[monitoring.telegram]], [[monitoring.pagerduty]]
# url = { file = "/etc/kaleem-dr/slack.url" }

# [[monitoring.ntfy]]
# topic = "kaleem-backups"
# token = { file = "/etc/kaleem-dr/ntfy.token" }

# [monitoring.prometheus]
# textfile = "/var/lib/prometheus/node-exporter/kaleem-dr.prom"
# pushgateway = "http://127.0.0.1:9091"

[schedule]        # in UTC, or in `timezone = "Europe/Berlin"`; `kaleem-dr schedule install` writes systemd timers or a cron file. "off" disables a job
backup = "daily 03:00"
verify = "daily 04:30"
check = "weekly sun 05:00"
drill = "monthly 1 03:20"
# replicate = "daily 03:30"             # the default as soon as a repository has mirror_of
# drill_of = { r2 = "monthly 1 04:20" } # for other repositories

# [recovery]        # each snapshot knows this config without its secrets, for `kaleem-dr bootstrap` on a new machine
# secrets = "sealed"   # and the secrets too, encrypted with a passphrase of their own
# passphrase = { file = "/etc/kaleem-dr/recovery.pass" }

[doctor]
key_age_days = 90       # age from which a bucket's key is due for rotation
min_free_percent = 20   # free share of each disk

[source.mongo]
type = "mongodb"
uri = { file = "/etc/kaleem-dr/mongo.uri" }   # mongodb://backup:…@127.0.0.1:27017/kaleem?authSource=admin

[source.rabbitmq]
type = "rabbitmq"
url = "http://127.0.0.1:15672"
username = "kaleem"
password = { file = "/etc/kaleem-dr/rabbitmq.pass" }

[source.qdrant]
type = "qdrant"
url = "http://127.0.0.1:6333"
# docker = { container = "kaleem-qdrant" }   # ask the Docker Engine for the address; `url` keeps the port inside the container
# peers = ["http://node2:6333", "http://node3:6333"]   # the other peers of a cluster
# api_key = { file = "/etc/kaleem-dr/qdrant.key" }

[source.configs]
type = "files"
paths = ["/etc", "/opt/kaleem"]
exclude = ["*.swp"]
# after = []            # `recover` restores a source after these; files come first, then servers, then n8n
# after_restore = [["nginx", "-t"], ["systemctl", "reload", "nginx"]]   # after a restore in place

# [source.n8n]    # disabled unless you run n8n
# type = "n8n"
# directory = "/home/node/.n8n"
"#;
