//! A source as `config init` writes it, made from one word of the command line.

use std::{fmt, path::PathBuf, sync::Arc};

use super::secret::{Environment, SecretString};

/// Makes a draft from the text after `KIND:`, or returns the reason why it cannot, with the form that is expected.
pub type Drafting = fn(&str, &Environment) -> Result<SourceDraft, String>;

/// A source that is to be written to a new config.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SourceDraft {
    /// The source's name, if no other source has it.
    pub name: String,
    /// Keys of its table and their values, without `type` and secrets.
    pub keys: Vec<(&'static str, DraftValue)>,
    /// Secrets that its table refers to.
    pub secrets: Vec<DraftSecret>,
    /// Directories and files that it captures on this machine.
    pub paths: Vec<PathBuf>,
}

impl SourceDraft {
    /// A draft without keys. The name is made valid.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: valid_name(name), keys: Vec::new(), secrets: Vec::new(), paths: Vec::new() }
    }
}

/// The value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DraftValue {
    /// A string.
    Text(String),
    /// A list of strings.
    List(Vec<String>),
}

impl From<&str> for DraftValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Turns what the operator typed into the secret.
type Form = dyn Fn(SecretString) -> SecretString + Send + Sync;

/// A secret of a draft. It is in a file; if that exists, it is used as it is.
#[derive(Clone)]
#[non_exhaustive]
pub struct DraftSecret {
    /// Key of the table that refers to it.
    pub key: &'static str,
    /// Ending of its file: `pass` for `rabbitmq.pass`.
    pub ending: &'static str,
    /// The value, if it is known.
    pub known: Option<SecretString>,
    /// Question for the operator, such as `password of the user backup`.
    pub question: String,
    /// Without it, the key is left out.
    pub is_optional: bool,
    form: Option<Arc<Form>>,
}

impl fmt::Debug for DraftSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DraftSecret").field(&self.key).finish()
    }
}

impl DraftSecret {
    /// A secret that has to be asked for.
    #[must_use]
    pub fn asked(key: &'static str, ending: &'static str, question: impl Into<String>) -> Self {
        let question = question.into();
        Self { key, ending, known: None, question, is_optional: false, form: None }
    }

    /// A value that is known, and belongs into a file.
    #[must_use]
    pub fn known(key: &'static str, ending: &'static str, value: SecretString) -> Self {
        Self { known: Some(value), ..Self::asked(key, ending, "") }
    }

    /// Leaves the key out if there is no answer.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { is_optional: true, ..self }
    }

    /// Makes the secret from the answer.
    #[must_use]
    pub fn formed(
        self,
        form: impl Fn(SecretString) -> SecretString + Send + Sync + 'static,
    ) -> Self {
        Self { form: Some(Arc::new(form)), ..self }
    }

    /// The secret that an answer means.
    #[must_use]
    pub fn of_answer(&self, answer: SecretString) -> SecretString {
        match &self.form {
            Some(form) => form(answer),
            None => answer,
        }
    }
}

/// A source's name that resembles a text, such as the last component of a path.
fn valid_name(text: &str) -> String {
    let plain = |c: char| {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '-' }
    };
    let name: String = text.chars().map(plain).collect();
    let name = name.trim_matches('-');
    let begins_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    // `files` has another meaning on the command line.
    let name = match (name, begins_well) {
        ("files" | "", _) => "tree".to_owned(),
        (name, true) => name.to_owned(),
        (name, false) => format!("tree-{name}"),
    };
    // Leaves space for a number.
    name.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::SourceName;

    #[test]
    fn every_name_of_a_draft_is_a_name_of_a_source() {
        for (text, wanted) in [
            ("home", "home"),
            ("My Data", "my-data"),
            ("2024", "tree-2024"),
            ("files", "tree"),
            ("", "tree"),
            ("بيانات", "tree"),
            (".n8n", "n8n"),
        ] {
            let name = SourceDraft::named(text).name;
            assert_eq!(name, wanted, "{text}");
            assert!(name.parse::<SourceName>().is_ok(), "{name}");
        }
        assert!(SourceDraft::named(&"x".repeat(100)).name.parse::<SourceName>().is_ok());
    }
}
