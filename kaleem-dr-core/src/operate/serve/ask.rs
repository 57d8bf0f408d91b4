//! The facts of a request: its query, its language, its colours.

use std::{convert::Infallible, ffi::OsString, os::unix::ffi::OsStringExt as _, path::PathBuf};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, Uri, header::ACCEPT_LANGUAGE, request::Parts},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::session::cookie;
use crate::ground::language::Language;

/// The cookies of the reader's choices.
pub(super) const LANGUAGE: &str = "kaleem_dr_lang";
pub(super) const THEME: &str = "kaleem_dr_theme";

/// Characters that need no escape in a query.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// The colours of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Theme {
    /// As the browser prefers.
    #[default]
    Auto,
    Light,
    Dark,
}

impl Theme {
    pub(super) const ALL: [Self; 3] = [Self::Auto, Self::Light, Self::Dark];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|theme| theme.word() == word)
    }
}

/// A query: names with values of any bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, Vec<u8>)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let decoded =
            |part: &str| -> Vec<u8> { percent_decode(part.replace('+', " ").as_bytes()).collect() };
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (String::from_utf8_lossy(&decoded(name)).into_owned(), decoded(value))
        };
        Self(text.split('&').filter(|pair| !pair.is_empty()).map(pair).collect())
    }

    /// A value that is not empty; `None` if it is missing or not UTF-8.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(of, _)| of == name)?;
        std::str::from_utf8(value).ok().filter(|value| !value.is_empty())
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        let (_, value) = self.0.iter().find(|(of, _)| of == name)?;
        (!value.is_empty()).then(|| OsString::from_vec(value.clone()).into())
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// The same query with another value, as text behind `?`; an empty value removes the name.
    pub(super) fn with(&self, name: &str, value: &[u8]) -> String {
        let mut pairs: Vec<(&str, &[u8])> = self
            .0
            .iter()
            .filter(|(of, value)| of != name && !value.is_empty())
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect();
        if !value.is_empty() {
            pairs.push((name, value));
        }
        let pair = |(name, value): &(&str, &[u8])| {
            format!("{}={}", percent_encode(name.as_bytes(), PLAIN), percent_encode(value, PLAIN))
        };
        format!("?{}", pairs.iter().map(pair).collect::<Vec<_>>().join("&"))
    }
}

/// The facts of a request that pages use.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// Path of the request.
    pub(super) path: String,
    pub(super) query: Query,
    pub(super) language: Language,
    pub(super) theme: Theme,
}

impl Ask {
    pub(super) fn of(uri: &Uri, headers: &HeaderMap) -> Self {
        let query = Query::parse(uri.query().unwrap_or_default());
        let chosen = |name: &str, kept: &str| {
            query.text(name).map(str::to_owned).or_else(|| cookie(headers, kept).map(str::to_owned))
        };
        let language = chosen("lang", LANGUAGE)
            .and_then(|word| word.parse().ok())
            .unwrap_or_else(|| preferred(headers));
        let theme = chosen("theme", THEME).and_then(|word| Theme::of(&word)).unwrap_or_default();
        Self { path: uri.path().to_owned(), query, language, theme }
    }

    /// A page number, from 0.
    pub(super) fn page(&self) -> u64 {
        self.query.number("page").unwrap_or(1).clamp(1, 1 << 32) - 1
    }

    /// The choices that this request makes for later ones, as cookies.
    pub(super) fn choices(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let language = self.query.text("lang").is_some();
        let theme = self.query.text("theme").is_some();
        let language = language.then_some((LANGUAGE, self.language.code()));
        language.into_iter().chain(theme.then_some((THEME, self.theme.word())))
    }
}

impl<S: Sync> FromRequestParts<S> for Ask {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.uri, &parts.headers))
    }
}

/// The language that the browser prefers among ours.
fn preferred(headers: &HeaderMap) -> Language {
    let header = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let wish = |wish: &str| {
        let mut parts = wish.split(';');
        let tag = parts.next()?.trim().split('-').next()?.to_ascii_lowercase();
        let weight = parts.find_map(|part| part.trim().strip_prefix("q=")?.parse::<f32>().ok());
        Some((tag.parse::<Language>().ok()?, weight.unwrap_or(1.0)))
    };
    let mut best = (Language::En, 0.0);
    for (language, weight) in header.into_iter().flat_map(|all| all.split(',')).filter_map(wish) {
        if weight > best.1 {
            best = (language, weight);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_keeps_bytes_that_are_not_text() {
        let query = Query::parse("path=/a%ff+b%2B&page=2&empty=&x");
        assert_eq!(query.path("path").unwrap().into_os_string().into_vec(), b"/a\xff b+");
        assert_eq!((query.text("path"), query.number("page")), (None, Some(2)));
        assert_eq!((query.text("empty"), query.text("x"), query.text("other")), (None, None, None));
        assert_eq!(query.with("page", b"3"), "?path=/a%FF%20b%2B&page=3");
        assert_eq!(query.with("path", b""), "?page=2");
        assert_eq!(Query::parse(&query.with("q", b"<\"&=#")[1..]).text("q"), Some("<\"&=#"));
    }

    #[test]
    fn the_language_is_the_one_with_the_greatest_weight() {
        let of = |text: &str| {
            preferred(&HeaderMap::from_iter([(ACCEPT_LANGUAGE, text.parse().unwrap())]))
        };
        assert_eq!(of("ar-SA,ar;q=0.9,en;q=0.8"), Language::Ar);
        assert_eq!(of("en-GB,en;q=0.9,ar;q=0.8"), Language::En);
        assert_eq!(of("de, ar;q=0.3"), Language::Ar);
        assert_eq!((of("de"), of("ar;q=0")), (Language::En, Language::En));
        assert_eq!(preferred(&HeaderMap::new()), Language::En);
    }
}
