//! The languages of reports, runbooks and checklists.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A language of reports and runbooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English, written left to right.
    #[default]
    En,
    /// Arabic, written from right to left.
    Ar,
}

impl Language {
    /// The language code: `en`, `ar`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Ar => "ar",
        }
    }

    /// The writing direction, as in HTML: `ltr`, `rtl`.
    #[must_use]
    pub fn direction(self) -> &'static str {
        match self {
            Self::En => "ltr",
            Self::Ar => "rtl",
        }
    }
}

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "en" => Ok(Self::En),
            "ar" => Ok(Self::Ar),
            other => Err(UnknownLanguage(other.to_owned())),
        }
    }
}

/// A language code that is neither `en` nor `ar`.
#[derive(Debug, thiserror::Error)]
#[error("reports are not available in `{0}`; use en or ar")]
pub struct UnknownLanguage(String);
