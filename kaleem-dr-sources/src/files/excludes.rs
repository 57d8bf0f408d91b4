//! What a walk leaves out, by patterns that mean what they mean to restic (`internal/filter` and Go's `filepath.Match`).
//!
//! A pattern is a list of components. One that begins with `/` matches from the root, any other one anywhere in a path; what it
//! matches is left out with everything below. `**` is any number of components, `!` takes back what earlier patterns left out, and the
//! last pattern that matches decides. Beyond restic, `{a,b}` stands for either.

use std::{
    fs, io,
    io::Read as _,
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    path::{Component, Path, PathBuf},
};

use kaleem_dr_core::ground::SourceError;
use nix::fcntl::OFlag;

use super::{FilesConfig, glob::Glob};

/// First bytes of a `CACHEDIR.TAG` (Cache Directory Tagging Specification).
const CACHE_TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What is left out.
#[derive(Clone, Debug)]
pub(super) struct Excludes {
    patterns: Vec<Pattern>,
    if_present: Vec<String>,
    caches: bool,
}

/// Which patterns have matched something in one walk, in the order of the config.
#[derive(Clone, Debug)]
pub(super) struct Matched(Vec<bool>);

impl Excludes {
    pub(super) fn new(config: &FilesConfig) -> Result<Self, SourceError> {
        let mut patterns = Vec::new();
        for (of, text) in config.exclude.iter().enumerate() {
            for alternative in alternatives(text) {
                patterns.extend(Pattern::new(&alternative, of).map_err(|why| {
                    SourceError::Unsupported(format!("the pattern `{text}` is not valid: {why}"))
                })?);
            }
        }
        Ok(Self {
            patterns,
            if_present: config.exclude_if_present.clone(),
            caches: config.exclude_caches,
        })
    }

    /// Nothing has matched yet.
    pub(super) fn unmatched(config_patterns: usize) -> Matched {
        Matched(vec![false; config_patterns])
    }

    /// Whether a path is left out.
    pub(super) fn excludes(&self, path: &Path, matched: &mut Matched) -> bool {
        let mut components: Vec<&[u8]> = Vec::new();
        for component in path.components() {
            components.push(if component == Component::RootDir {
                b"/"
            } else {
                component.as_os_str().as_bytes()
            });
        }
        let mut excluded = false;
        for pattern in &self.patterns {
            if matches(&pattern.parts, &components) {
                matched.0[pattern.of] = true;
                excluded = !pattern.takes_back;
            }
        }
        excluded
    }

    /// Whether a directory is left out by what lies in it.
    pub(super) fn excludes_directory(&self, path: &Path) -> bool {
        self.if_present.iter().any(|marker| path.join(marker).exists())
            || self.caches && is_cache_tag(&path.join("CACHEDIR.TAG")).unwrap_or(false)
    }
}

/// Only a regular file can be one: a pipe would never end.
fn is_cache_tag(path: &Path) -> io::Result<bool> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut tag = Vec::new();
    file.take(CACHE_TAG.len() as u64).read_to_end(&mut tag)?;
    Ok(tag == CACHE_TAG)
}

impl Matched {
    /// The patterns that matched nothing.
    pub(super) fn idle<'a>(&self, patterns: &'a [String]) -> Vec<&'a String> {
        patterns
            .iter()
            .zip(&self.0)
            .filter(|(_, matched)| !**matched)
            .map(|(pattern, _)| pattern)
            .collect()
    }
}

/// Why a pattern is probably not what was meant: it can match nothing under these roots, or does not mean what it seems to.
pub(super) fn doubts(patterns: &[String], roots: &[PathBuf]) -> Vec<String> {
    let mut doubts = Vec::new();
    let mut any_before = false;
    for pattern in patterns {
        let takes_back = pattern.starts_with('!');
        let plain = pattern.strip_prefix('!').unwrap_or(pattern);
        let why = if plain.is_empty() {
            Some("it is empty and can match nothing")
        } else if plain.trim() != plain {
            Some("it begins or ends with a space, which counts")
        } else if plain == "~" || plain.starts_with("~/") {
            Some("`~` is not expanded, so it can match nothing: write the directory's path")
        } else if plain.contains("$HOME") || plain.contains("${") {
            Some("variables are not expanded here: write the path")
        } else if plain.contains("[!") {
            Some("`[!x]` matches `!` and `x`: write `[^x]` for anything but `x`")
        } else if clean(plain).first().is_some_and(|first| *first == "." || *first == "..") {
            Some("paths are absolute, so `.` and `..` can match nothing")
        } else if takes_back && !any_before {
            Some("it takes back what earlier patterns leave out, and none comes before it")
        } else if plain.starts_with('/') && !roots.iter().any(|root| may_reach(plain, root)) {
            Some("it lies under none of `paths`, so it can match nothing")
        } else {
            None
        };
        doubts.extend(why.map(|why| format!("exclude pattern `{pattern}`: {why}")));
        any_before |= !takes_back;
    }
    doubts
}

/// Whether an absolute pattern may match a root, or something below or above it.
fn may_reach(pattern: &str, root: &Path) -> bool {
    let is_plain = |part: &&&str| !part.contains(['*', '?', '[', '\\', '{']);
    let parts = clean(pattern);
    // Without the `/` that both begin with.
    let fixed: PathBuf = parts.iter().skip(1).take_while(is_plain).collect();
    let root = root.strip_prefix("/").unwrap_or(root);
    root.starts_with(&fixed) || fixed.starts_with(root)
}

/// One pattern.
#[derive(Clone, Debug)]
struct Pattern {
    parts: Vec<Part>,
    takes_back: bool,
    /// The place of the config's pattern.
    of: usize,
}

/// One component of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// `**`.
    AnyNumber,
    /// `*`.
    AnyOne,
    /// `/` at the beginning, and names without anything special.
    Plain(Vec<u8>),
    Glob(Glob),
}

impl Pattern {
    /// `None` of an empty one, which restic passes over.
    fn new(text: &str, of: usize) -> Result<Option<Self>, &'static str> {
        if text.is_empty() {
            return Ok(None);
        }
        let plain = text.strip_prefix('!').unwrap_or(text);
        let mut parts = Vec::new();
        for part in clean(plain) {
            let part = match part {
                "**" => Part::AnyNumber,
                "*" => Part::AnyOne,
                part if part.contains(['\\', '[', ']', '*', '?']) => Part::Glob(Glob::new(part)?),
                part => Part::Plain(part.as_bytes().to_vec()),
            };
            // Two in a row mean no more than one.
            if part != Part::AnyNumber || parts.last() != Some(&part) {
                parts.push(part);
            }
        }
        // restic takes `/` alone for everything.
        if parts == [Part::Plain(b"/".to_vec())] {
            parts.push(Part::AnyNumber);
        }
        Ok(Some(Self { parts, takes_back: plain.len() < text.len(), of }))
    }
}

/// The components of a path as Go's `filepath.Clean` leaves them, `/` as the first of an absolute one.
fn clean(text: &str) -> Vec<&str> {
    let rooted = text.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    if rooted {
        parts.insert(0, "/");
    } else if parts.is_empty() {
        parts.push(".");
    }
    parts
}

/// Whether the parts match somewhere in a path, or from its root where they begin with `/`.
fn matches(parts: &[Part], path: &[&[u8]]) -> bool {
    if let Some(at) = parts.iter().position(|part| *part == Part::AnyNumber) {
        // It stands for no component, for one, for two …
        let mut expanded = parts[..at].to_vec();
        loop {
            if expanded.len() + parts.len() - at - 1 > path.len() {
                return false;
            }
            let whole = [&expanded[..], &parts[at + 1..]].concat();
            if matches(&whole, path) {
                return true;
            }
            expanded.push(Part::AnyOne);
        }
    }
    let is_root = |part: &Part| *part == Part::Plain(b"/".to_vec());
    let (Some(first), Some(last_offset)) = (parts.first(), path.len().checked_sub(parts.len()))
    else {
        return false;
    };
    let offsets = if is_root(first) { 0..=0 } else { 1..=last_offset };
    offsets.rev().any(|offset| {
        parts.iter().zip(&path[offset..]).all(|(part, name)| match part {
            Part::AnyNumber => false,
            Part::AnyOne => true,
            Part::Plain(plain) => plain == name,
            Part::Glob(glob) => glob.matches(name),
        })
    })
}

/// A pattern with its `{a,b}` written out, itself first: braces without a comma are plain characters.
fn alternatives(text: &str) -> Vec<String> {
    let mut all = vec![text.to_owned()];
    if let Some(open) = text.find('{')
        && let Some(close) = text[open..].find('}').map(|at| open + at)
        && text[open..close].contains(',')
    {
        for choice in text[open + 1..close].split(',') {
            all.extend(alternatives(&format!("{}{choice}{}", &text[..open], &text[close + 1..])));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(patterns: &[&str], path: &str) -> bool {
        let config = serde_json::json!({ "paths": ["/t"], "exclude": patterns });
        let excludes = Excludes::new(&serde_json::from_value(config).unwrap()).unwrap();
        excludes.excludes(Path::new(path), &mut Excludes::unmatched(patterns.len()))
    }

    #[test]
    fn patterns_match_as_in_restic() {
        for (pattern, path, expected) in [
            ("cache", "/t/app/cache", true),
            ("cache/", "/t/app/cache", true),
            ("cache", "/t/app/cached", false),
            ("/t/app/cache/", "/t/app/cache", true),
            ("/app/cache", "/t/app/cache", false),
            ("app/logs", "/t/app/logs/old", true),
            ("app/old", "/t/app/logs/old", false),
            ("logs/**", "/t/app/logs", true),
            ("**/cache/", "/t/app/cache", true),
            ("/t/**/x", "/t/a/b/x", true),
            ("/t/**/x", "/t/x", true),
            ("/t/**/x", "/u/x", false),
            ("*.log", "/t/a.log", true),
            ("*", "/t", true),
            ("**", "/t", true),
            ("/", "/t", true),
            ("/*", "/t", true),
            ("./cache", "/t/cache", true),
            ("../cache", "/t/cache", false),
            ("a//b", "/t/a/b", true),
            ("a/x/../b", "/t/a/b", true),
            ("[^a]x", "/t/bx", true),
            ("[^a]x", "/t/ax", false),
            ("\\*", "/t/*", true),
            ("\\*", "/t/a", false),
            ("Cache", "/t/cache", false),
            ("cache ", "/t/cache", false),
            ("*.{log,tmp}", "/t/a.tmp", true),
            ("{a}", "/t/{a}", true),
            ("", "/t", false),
        ] {
            assert_eq!(excludes(&[pattern], path), expected, "{pattern} {path}");
        }
        assert!(!excludes(&["*.log", "!keep.log"], "/t/keep.log"));
        assert!(excludes(&["!keep.log", "*.log"], "/t/keep.log"), "the last one decides");
    }

    #[test]
    fn invalid_patterns_are_refused_and_doubtful_ones_named() {
        for bad in ["[a", "a\\", "[]", "[a-]"] {
            let config = serde_json::json!({ "paths": ["/t"], "exclude": [bad] });
            let error = Excludes::new(&serde_json::from_value(config).unwrap()).unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
        let roots = [PathBuf::from("/t/app")];
        let doubts = |pattern: &str| doubts(&[pattern.to_owned()], &roots);
        for fine in ["cache/", "/t/app/x", "/t", "/t/*/x", "/*/app", "**/x", "/", "*.log"] {
            assert_eq!(doubts(fine), Vec::<String>::new());
        }
        for (doubtful, why) in [
            ("~/cache", "`~` is not expanded"),
            ("$HOME/cache", "variables"),
            ("cache ", "space"),
            ("../x", "absolute"),
            ("./", "absolute"),
            ("/u/cache", "under none"),
            ("!x", "none comes before"),
            ("", "empty"),
            ("[!a]x", "write `[^x]`"),
        ] {
            let doubts = doubts(doubtful);
            assert!(doubts.len() == 1 && doubts[0].contains(why), "{doubtful}: {doubts:?}");
        }
    }
}
