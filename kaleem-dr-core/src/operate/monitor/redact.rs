//! Removes secrets from everything that leaves this machine.
//!
//! Logs and reports never contain secrets on purpose; this is the second line of defence. It knows
//! every secret that was read through the config, the values of variables whose names look like
//! secrets, user data in URLs, and values after words like `password=`.

use crate::operate::config::secret::{Environment, ExposeSecret as _, SecretString};

/// Replaces what was removed.
const GONE: &str = "***";
/// Minimum length of a secret; shorter ones would remove parts of common words.
const SHORTEST_SECRET_BYTES: usize = 4;
/// Words that precede a secret and a `=` or `:`; case, `-` and `_` are ignored.
const SECRET_WORDS: [&str; 13] = [
    "password",
    "passwd",
    "passphrase",
    "pass",
    "pwd",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "secretaccesskey",
    "authorization",
    "signature",
    "credential",
];

#[derive(Clone, Default)]
pub(crate) struct Redactor(Vec<SecretString>);

impl Redactor {
    /// A redactor for the secrets that the process knows now.
    pub(crate) fn of(environment: &Environment) -> Self {
        let mut secrets = environment.secrets_read();
        secrets.extend(
            environment
                .names_with("")
                .filter(|name| is_secret_name(name))
                .filter_map(|name| Some(SecretString::from(environment.get(name)?.to_owned()))),
        );
        let within: Vec<SecretString> =
            secrets.iter().filter_map(|secret| password_of(secret.expose_secret())).collect();
        secrets.extend(within);
        let mut texts: Vec<SecretString> =
            secrets.into_iter().flat_map(|secret| forms(secret.expose_secret())).collect();
        texts.retain(|text| text.expose_secret().len() >= SHORTEST_SECRET_BYTES);
        // A secret that contains another one is removed first, or its rest would remain.
        texts.sort_by_key(|text| std::cmp::Reverse(text.expose_secret().len()));
        Self(texts)
    }

    /// The same without secrets shorter than this, which may be words of the text by coincidence.
    pub(crate) fn of_at_least(mut self, bytes: usize) -> Self {
        self.0.retain(|text| text.expose_secret().len() >= bytes);
        self
    }

    /// Returns the text without the secrets.
    pub(crate) fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            if text.contains(secret.expose_secret()) {
                text = text.replace(secret.expose_secret(), GONE);
            }
        }
        without_assignments(&without_user_data(&text))
    }
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    // The location of a secret is not a secret: RESTIC_PASSWORD_FILE, CREDENTIALS_DIRECTORY.
    let is_place =
        ["_FILE", "_DIRECTORY", "_PATH", "_COMMAND", "_DIR"].iter().any(|end| name.ends_with(end));
    !is_place
        && ["PASS", "SECRET", "TOKEN", "_KEY", "HC_URL", "MONGO_URI"]
            .iter()
            .any(|part| name.contains(part))
}

/// The secret unchanged, percent-encoded and decoded as in a URL, and escaped as in JSON.
fn forms(secret: &str) -> Vec<SecretString> {
    let mut forms = vec![secret.to_owned()];
    let json = serde_json::Value::from(secret).to_string();
    for form in
        [percent_encoded(secret), percent_decoded(secret), json[1..json.len() - 1].to_owned()]
    {
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms.into_iter().map(SecretString::from).collect()
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([byte]));
        }
    }
    encoded
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let byte = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| hex::decode(digits).ok());
        decoded.push(byte.as_ref().map_or(bytes[at], |byte| byte[0]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The password in a URL, `scheme://user:PASSWORD@host`.
fn password_of(text: &str) -> Option<SecretString> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user_data, _) = authority.rsplit_once('@')?;
    let (_, password) = user_data.split_once(':')?;
    (!password.is_empty()).then(|| SecretString::from(password.to_owned()))
}

fn without_user_data(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let authority = after
            .find(|c: char| c.is_whitespace() || "/?#\"'<>".contains(c))
            .unwrap_or(after.len());
        rest = match after[..authority].rfind('@') {
            Some(user_data) => {
                clean.push_str(GONE);
                &after[user_data..]
            }
            None => after,
        };
    }
    clean + rest
}

/// Removes the values of `password=x`, `"token": "x"` and `Authorization: Bearer x`.
fn without_assignments(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['=', ':']) {
        let (name, after) = (&rest[..at], &rest[at + 1..]);
        clean.push_str(&rest[..=at]);
        rest = after;
        if is_secret_word(name) && !after.starts_with("//") {
            let value = after.trim_start_matches([' ', '"', '\'', '\\']);
            clean.push_str(&after[..after.len() - value.len()]);
            let value = ["Bearer ", "Basic "]
                .iter()
                .find_map(|scheme| value.strip_prefix(scheme))
                .unwrap_or(value);
            let length = value
                .find(|c: char| c.is_whitespace() || "\"',;&}".contains(c))
                .unwrap_or(value.len());
            if length > 0 {
                clean.push_str(GONE);
            }
            rest = &value[length..];
        }
    }
    clean + rest
}

/// Reports whether a text ends in a word that precedes a secret.
fn is_secret_word(text: &str) -> bool {
    let text = text.trim_end_matches([' ', '"', '\'', '\\']);
    let is_within = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let word = text.rsplit(|c| !is_within(c)).next().unwrap_or_default();
    let word: String =
        word.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SECRET_WORDS.iter().any(|secret| word.ends_with(secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::config::secret::SecretRef;

    #[test]
    fn addresses_and_assignments_lose_their_secrets_and_nothing_else() {
        let redactor = Redactor::default();
        for (said, clean) in [
            (
                "mongodb://backup:p%40ss@h:27017/kaleem is down",
                "mongodb://***@h:27017/kaleem is down",
            ),
            ("http://only-user@h, http://h/x", "http://***@h, http://h/x"),
            ("password=hunter22 and more", "password=*** and more"),
            ("RESTIC_PASSWORD = 'hunter22'", "RESTIC_PASSWORD = '***'"),
            (r#"{"api_key":"abc","n":1}"#, r#"{"api_key":"***","n":1}"#),
            ("Authorization: Bearer abc.def x", "Authorization: *** x"),
            ("X-Amz-Signature=abc&X=1", "X-Amz-Signature=***&X=1"),
            (
                "wrong password: look at RESTIC_PASSWORD_FILE",
                "wrong password: *** at RESTIC_PASSWORD_FILE",
            ),
            ("bytes=12 at 03:00: http://h/p?a=b", "bytes=12 at 03:00: http://h/p?a=b"),
            ("/srv/نسخ احتياطية: لا يُقرأ", "/srv/نسخ احتياطية: لا يُقرأ"),
            ("كلمة السر password: hunter22", "كلمة السر password: ***"),
        ] {
            assert_eq!(redactor.clean(said), clean);
        }
    }

    #[test]
    fn what_was_read_as_a_secret_is_known_in_every_form() {
        let environment: Environment = [
            ("A", "mongodb://u:p@$$/w%C3%B6rd@h/db"),
            ("B", "can\"ary/1"),
            ("RABBIT_PASS", "rabbit77"),
        ]
        .into_iter()
        .collect();
        environment.secret(&SecretRef::Env("B".into())).unwrap();
        let redactor = Redactor::of(&environment);
        assert_eq!(
            redactor.clean("x can\"ary/1 can%22ary%2F1 can\\\"ary/1 rabbit77"),
            "x *** *** *** ***"
        );
        environment.secret(&SecretRef::Env("A".into())).unwrap();
        let cleaned = Redactor::of(&environment).clean("says p@$$/w%C3%B6rd");
        assert!(cleaned.contains("says"), "{cleaned}");
    }
}
