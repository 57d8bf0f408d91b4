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

use schemars::JsonSchema;
pub use secrecy::{ExposeSecret, SecretString};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};

/// The location of a secret: `{ file = "/etc/restic.pass" }`, `{ env = "MONGO_URI" }` or `{
/// credential = "mongo-uri" }`.
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
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Credential(name) => write!(f, "systemd credential {name}"),
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
                f.write_str("the location of a secret: { file = \"…\" }, { env = \"…\" } or { credential = \"…\" }")
            }

            fn visit_str<E: serde::de::Error>(self, _secret: &str) -> Result<SecretRef, E> {
                Err(E::custom(
                    "secrets are not allowed in the config; set the location of the secret: { file = \"…\" }, { env = \"…\" } or { credential = \"…\" }",
                ))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
                let kind: String = map
                    .next_key()?
                    .ok_or_else(|| A::Error::custom("an empty table does not refer to a secret"))?;
                let value: String = map.next_value()?;
                if map.next_key::<String>()?.is_some() {
                    return Err(A::Error::custom("set one location of the secret, not two"));
                }
                match kind.as_str() {
                    "file" => Ok(SecretRef::File(value.into())),
                    "env" => Ok(SecretRef::Env(value)),
                    "credential" => Ok(SecretRef::Credential(value)),
                    _ => Err(A::Error::unknown_field(&kind, &["file", "env", "credential"])),
                }
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
        Self { variables, read: Arc::default() }
    }
}

impl Environment {
    /// The process environment; variables that are not UTF-8 are left out.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
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
        };
        if text.is_empty() {
            return Err(SecretError::Empty(secret.clone()));
        }
        let text = SecretString::from(text);
        self.read.lock().unwrap_or_else(PoisonError::into_inner).push(text.clone());
        Ok(text)
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
    fn debug_shows_names_only() {
        let environment: Environment = [("MONGO_URI", "canary")].into_iter().collect();
        let shown = format!(
            "{environment:?} {:?}",
            environment.secret(&SecretRef::Env("MONGO_URI".into()))
        );
        assert!(shown.contains("MONGO_URI") && !shown.contains("canary"), "{shown}");
    }
}
