//! What `config init` writes.

/// A commented config to start from. It is valid as it is but for the paths and secrets it names.
pub const TEMPLATE: &str = r#"# kaleem-dr. `kaleem-dr config check` finds faults; `kaleem-dr config schema` prints every key.
# A secret is never written here: name a file that only its owner may read, an environment variable, or a systemd credential:
#   { file = "/etc/restic.pass" }   { env = "MONGO_URI" }   { credential = "mongo-uri" }
# KALEEM_DR__SECTION__KEY in the environment overrides a key.

state_directory = "/var/lib/kaleem-dr"

[repository.local]
location = "/backups/restic-local"
password = { file = "/etc/restic.pass" }

# [repository.r2]   # `kaleem-dr --repo r2 init --copy-chunker-params local` makes it
# location = "s3:https://ACCOUNT.r2.cloudflarestorage.com/BUCKET"
# password = { file = "/etc/restic-r2.pass" }
# tags = ["r2", "server:{host}"]

[backup]
forget = true     # forget by [retention] after each run
prune = true      # and give the space back
# also = ["r2"]   # further repositories that get a copy of what is saved

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
# api_key = { file = "/etc/kaleem-dr/qdrant.key" }

[source.configs]
type = "files"
paths = ["/etc", "/opt/kaleem"]
exclude = ["*.swp"]
# after_restore = [["nginx", "-t"], ["systemctl", "reload", "nginx"]]   # after a restore in place

# [source.n8n]    # off unless you run it
# type = "n8n"
# directory = "/home/node/.n8n"
"#;
