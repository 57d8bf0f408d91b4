//! Secrets: references to their locations, and the type that they are read into and never leave.
//!
//! A config refers to a secret by file, environment variable or systemd credential; the secret
//! itself is never in the config and never on a command line. It is read into a [`SecretString`],
//! which neither Debug nor Display prints.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::CancellationToken;
use schemars::JsonSchema;
pub use secrecy::{ExposeSecret, SecretString};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};

use super::secret_command;
use crate::engine::repository::DerivedKeys;

/// The location of a secret: `{ file = "/etc/restic.pass" }`, `{ env = "MONGO_URI" }`, `{
/// credential = "mongo-uri" }` or `{ command = ["pass", "show", "restic"] }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretRef {
    /// A file that only its owner can read. It is read as restic reads password files: a byte order mark and white space around the
    /// secret are removed, and UTF-16 with a byte order mark is decoded.
    File(PathBuf),
    /// An environment variable of this name.
    Env(String),
    /// A file of this name in `$CREDENTIALS_DIRECTORY` (systemd's `LoadCredential=`).
    Credential(String),
    /// A program with its arguments, which prints the secret. It runs without a shell, at most for a minute and once in each run
    /// of kaleem-dr; white space around its output is removed.
    Command(Vec<String>),
}

/// The forms of a reference, for messages.
const FORMS: &str =
    "{ file = \"…\" }, { env = \"…\" }, { credential = \"…\" } or { command = [\"…\"] }";

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Credential(name) => write!(f, "systemd credential {name}"),
            // Arguments may be secrets, although they should not be.
            Self::Command(words) => {
                write!(f, "output of the command {}", words.first().map_or("", String::as_str))
            }
        }
    }
}

/// By hand, so that a message never repeats a secret that was written in the config.
impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Table;

        impl<'de> Visitor<'de> for Table {
            type Value = SecretRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "the location of a secret: {FORMS}")
            }

            fn visit_str<E: serde::de::Error>(self, _secret: &str) -> Result<SecretRef, E> {
                Err(E::custom(format!(
                    "secrets are not allowed in the config; set the location of the secret: {FORMS}"
                )))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
                let kind: String = map
                    .next_key()?
                    .ok_or_else(|| A::Error::custom("an empty table does not refer to a secret"))?;
                let secret = if kind == "command" {
                    // Without the parser's message, which would quote a value of another type.
                    let words: Vec<String> = map.next_value().map_err(|_| {
                        A::Error::custom("`command` must be a list: a program and its arguments")
                    })?;
                    if words.first().is_none_or(String::is_empty) {
                        return Err(A::Error::custom("`command` needs a program"));
                    }
                    SecretRef::Command(words)
                } else {
                    let value: String = map.next_value()?;
                    match kind.as_str() {
                        "file" => SecretRef::File(value.into()),
                        "env" => SecretRef::Env(value),
                        "credential" => SecretRef::Credential(value),
                        _ => {
                            const KINDS: &[&str] = &["file", "env", "credential", "command"];
                            return Err(A::Error::unknown_field(&kind, KINDS));
                        }
                    }
                };
                if map.next_key::<String>()?.is_some() {
                    return Err(A::Error::custom("set one location of the secret, not two"));
                }
                Ok(secret)
            }
        }

        from.deserialize_any(Table)
    }
}

/// The environment that a config is read in: variables of the process, overridden by those of an
/// env file.
///
/// It is a value, created once at the edge: nothing below the CLI reads the process environment.
///
/// It remembers which secrets were read, across all clones, so that outgoing texts can be searched
/// for them.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, SecretString>,
    read: Arc<Mutex<Vec<SecretString>>>,
    /// Output of the commands that have run.
    printed: Arc<Mutex<BTreeMap<Vec<String>, SecretString>>>,
    /// Keys derived from the passwords of repositories.
    derived: DerivedKeys,
    /// Ends commands that are still running.
    cancel: CancellationToken,
    /// User without root's rights, whose state and cache are in the home directory.
    is_user: bool,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.into(), SecretString::from(value.into())))
            .collect();
        Self { variables, ..Self::default() }
    }
}

impl Environment {
    /// The process environment; variables that are not UTF-8 are left out.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { is_user: !nix::unistd::geteuid().is_root(), ..variables }
    }

    /// Sets whether this is the environment of a user without root's rights. The defaults of
    /// `state_directory` and `cache_directory` depend on it.
    #[must_use]
    pub fn of_user(self, is_user: bool) -> Self {
        Self { is_user, ..self }
    }

    /// Ends commands that print secrets when this token is cancelled.
    #[must_use]
    pub fn cancelled_by(self, cancel: CancellationToken) -> Self {
        Self { cancel, ..self }
    }

    /// Reports whether this is the environment of a user without root's rights.
    #[must_use]
    pub fn is_user(&self) -> bool {
        self.is_user
    }

    /// Overrides these variables by others.
    pub fn overlay(&mut self, other: Self) {
        self.variables.extend(other.variables);
    }

    /// A variable that is not a secret. An empty one counts as absent, as in restic.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(ExposeSecret::expose_secret).filter(|value| !value.is_empty())
    }

    /// The names that begin with `prefix`.
    pub fn names_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.variables.keys().map(String::as_str).filter(move |name| name.starts_with(prefix))
    }

    /// Reads a secret.
    ///
    /// # Errors
    /// If it does not exist, is empty, is not UTF-8, or is in a file that users other than its
    /// owner can read.
    pub fn secret(&self, secret: &SecretRef) -> Result<SecretString, SecretError> {
        let text = match secret {
            SecretRef::File(path) => trimmed(read_private(path)?),
            SecretRef::Env(name) => self
                .get(name)
                .map(str::to_owned)
                .ok_or_else(|| SecretError::NoVariable(name.clone()))?,
            SecretRef::Credential(name) => {
                let directory = self
                    .get("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| SecretError::NoCredentials(name.clone()))?;
                // systemd restricts this directory to the service; its mode does not show that.
                let path = Path::new(directory).join(name);
                let read = fs::read(&path).and_then(decoded);
                trimmed(read.map_err(|cause| SecretError::Unreadable { path, cause })?)
            }
            SecretRef::Command(words) => trimmed(self.output_of(words)?),
        };
        if text.is_empty() {
            return Err(SecretError::Empty(secret.clone()));
        }
        let text = SecretString::from(text);
        self.read.lock().unwrap_or_else(PoisonError::into_inner).push(text.clone());
        Ok(text)
    }

    /// The output of a command, which runs once: it may ask the operator for something.
    fn output_of(&self, words: &[String]) -> Result<String, SecretError> {
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = printed.get(words) {
            return Ok(known.expose_secret().to_owned());
        }
        let failed = |cause| SecretError::Command {
            program: words.first().cloned().unwrap_or_default(),
            cause,
        };
        let output =
            secret_command::output(words, &self.cancel).and_then(decoded).map_err(failed)?;
        printed.insert(words.to_vec(), SecretString::from(output.clone()));
        Ok(output)
    }

    pub(crate) fn derived_keys(&self) -> &DerivedKeys {
        &self.derived
    }

    /// All secrets that were read so far.
    #[must_use]
    pub fn secrets_read(&self) -> Vec<SecretString> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads a file of secrets, unless users other than its owner can read it.
pub(super) fn read_private(path: &Path) -> Result<String, SecretError> {
    let unreadable = |cause| SecretError::Unreadable { path: path.to_path_buf(), cause };
    let meta = fs::metadata(path).map_err(unreadable)?;
    // Pipes (`/dev/fd/63`) have no lasting content that others could read.
    if meta.is_file() && meta.mode() & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.to_path_buf(), mode: meta.mode() & 0o7777 });
    }
    fs::read(path).and_then(decoded).map_err(unreadable)
}

/// Decodes a text file as restic does: UTF-8, or UTF-16 with a byte order mark. The mark is removed.
fn decoded(bytes: Vec<u8>) -> io::Result<String> {
    let utf_16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.chunks(2).map(|pair| unit([pair[0], pair.get(1).copied().unwrap_or(0)]));
        char::decode_utf16(units).collect::<Result<String, _>>().map_err(io::Error::other)
    };
    match bytes.as_slice() {
        [0xff, 0xfe, text @ ..] => utf_16(text, u16::from_le_bytes),
        [0xfe, 0xff, text @ ..] => utf_16(text, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, text @ ..] => String::from_utf8(text.to_vec()).map_err(not_utf_8),
        _ => String::from_utf8(bytes).map_err(not_utf_8),
    }
}

/// Without the bytes, which are a secret.
fn not_utf_8(_: std::string::FromUtf8Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8")
}

fn trimmed(text: String) -> String {
    let trimmed = text.trim();
    if trimmed.len() == text.len() { text } else { trimmed.to_owned() }
}

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret file {}", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        #[source]
        cause: std::io::Error,
    },
    /// Users other than the owner can read the file.
    #[error("the secret file {path} can be read by other users (mode {mode:03o}); run: chmod 600 {path}", path = path.display())]
    Exposed {
        /// Path of the file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The variable is not set.
    #[error("the environment variable {0} is not set or is empty")]
    NoVariable(String),
    /// There are no systemd credentials.
    #[error(
        "the systemd credential {0} does not exist because CREDENTIALS_DIRECTORY is not set; check LoadCredential= in the unit"
    )]
    NoCredentials(String),
    /// The command that prints the secret failed.
    #[error("the command {program}, which prints the secret, failed")]
    Command {
        /// The program, without its arguments.
        program: String,
        /// The reason.
        #[source]
        cause: std::io::Error,
    },
    /// The secret exists, but is empty.
    #[error("the secret in {0} is empty")]
    Empty(SecretRef),
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_password_file_is_read_as_restic_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pass");
        let utf_16 = |mark: [u8; 2], bytes: fn(u16) -> [u8; 2]| {
            let text = "p ä\u{1f511}s\r\n".encode_utf16().flat_map(bytes);
            mark.into_iter().chain(text).collect::<Vec<u8>>()
        };
        for content in [
            "p ä\u{1f511}s".as_bytes().to_vec(),
            "p ä\u{1f511}s\r\n".as_bytes().to_vec(),
            "\u{feff} p ä\u{1f511}s \t\n\n".as_bytes().to_vec(),
            utf_16([0xff, 0xfe], u16::to_le_bytes),
            utf_16([0xfe, 0xff], u16::to_be_bytes),
        ] {
            fs::write(&path, &content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let read = Environment::default().secret(&SecretRef::File(path.clone())).unwrap();
            assert_eq!(read.expose_secret(), "p ä\u{1f511}s", "{content:x?}");
        }
        fs::write(&path, b"canary \xff").unwrap();
        let error = Environment::default().secret(&SecretRef::File(path.clone())).unwrap_err();
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        fs::write(&path, " \n").unwrap();
        let error = Environment::default().secret(&SecretRef::File(path)).unwrap_err();
        assert!(matches!(error, SecretError::Empty(_)), "{error:?}");
    }

    #[test]
    fn a_file_others_can_read_is_refused_with_the_command_that_mends_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pass");
        fs::write(&path, "s3cret\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let environment = Environment::default();
        let error = environment.secret(&SecretRef::File(path.clone())).unwrap_err().to_string();
        assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(environment.secret(&SecretRef::File(path)).unwrap().expose_secret(), "s3cret");
    }

    #[test]
    fn a_command_runs_once_without_a_shell_and_its_output_is_trimmed() {
        let directory = tempfile::tempdir().unwrap();
        let count = directory.path().join("count");
        let script = format!("echo >>'{}'; printf '  s3cret $1\\n\\n'", count.display());
        let command = SecretRef::Command(["sh", "-c", &script].map(str::to_owned).to_vec());
        let environment = Environment::default();
        for _ in 0..2 {
            assert_eq!(environment.secret(&command).unwrap().expose_secret(), "s3cret $1");
        }
        assert_eq!(fs::read_to_string(&count).unwrap().len(), 1, "it runs once");

        let fails = "echo canary; echo canary >/dev/stdout; exit 3";
        let command = SecretRef::Command(["sh", "-c", fails].map(str::to_owned).to_vec());
        let error = environment.secret(&command).unwrap_err();
        assert!(format!("{error:?}").contains("exit status: 3"), "{error:?}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        let missing = SecretRef::Command(vec!["/nonexistent/pass".to_owned()]);
        let error = environment.secret(&missing).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/pass"), "{error}");
    }

    #[test]
    fn debug_shows_names_only() {
        let environment: Environment = [("MONGO_URI", "canary")].into_iter().collect();
        let shown = format!(
            "{environment:?} {:?}",
            environment.secret(&SecretRef::Env("MONGO_URI".into()))
        );
        assert!(shown.contains("MONGO_URI") && !shown.contains("canary"), "{shown}");
    }
}
