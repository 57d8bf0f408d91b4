//! The patterns that exclude paths from a walk, with restic's semantics (`internal/filter` and Go's
//! `filepath.Match`).
//!
//! A pattern is a list of components. If it begins with `/`, it matches from the root, otherwise
//! anywhere in a path; a match excludes the entry with everything below it. `**` matches any number
//! of components, `!` includes again what earlier patterns excluded, and the last matching pattern
//! decides. As an extension to restic, `{a,b}` matches either.

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

/// The patterns, markers and limits of a config, compiled.
#[derive(Clone, Debug)]
pub(super) struct Excludes {
    /// The patterns as they are written: those of `exclude`, of `exclude_files`, and of `iexclude`.
    texts: Vec<String>,
    patterns: Vec<Pattern>,
    /// The patterns of `iexclude`, in lower case.
    folded: Vec<Pattern>,
    larger_than: Option<u64>,
    if_present: Vec<String>,
    caches: bool,
}

/// For each pattern of the config, in order, whether it has matched in this walk.
#[derive(Clone, Debug)]
pub(super) struct Matched(Vec<bool>);

impl Excludes {
    pub(super) fn new(config: &FilesConfig) -> Result<Self, SourceError> {
        let mut texts = config.exclude.clone();
        for path in &config.exclude_files {
            texts.extend(lines_of(path)?);
        }
        let first_folded = texts.len();
        texts.extend(config.iexclude.iter().cloned());
        let (mut patterns, mut folded) = (Vec::new(), Vec::new());
        for (of, text) in texts.iter().enumerate() {
            let (into, compiled) = if of < first_folded {
                (&mut patterns, text.clone())
            } else {
                (&mut folded, text.to_lowercase())
            };
            for alternative in alternatives(&compiled) {
                into.extend(Pattern::new(&alternative, of).map_err(|why| {
                    SourceError::Unsupported(format!("the pattern `{text}` is not valid: {why}"))
                })?);
            }
        }
        let larger_than = config.exclude_larger_than.as_deref().map(|text| {
            size(text).ok_or_else(|| {
                SourceError::Unsupported(format!(
                    "`exclude_larger_than`: `{text}` is not a size such as 500M or 2G"
                ))
            })
        });
        Ok(Self {
            texts,
            patterns,
            folded,
            larger_than: larger_than.transpose()?,
            if_present: config.exclude_if_present.clone(),
            caches: config.exclude_caches,
        })
    }

    /// The state before a walk.
    pub(super) fn unmatched(&self) -> Matched {
        Matched(vec![false; self.texts.len()])
    }

    /// The patterns that have matched nothing.
    pub(super) fn idle(&self, matched: &Matched) -> impl Iterator<Item = &String> {
        let all = self.texts.iter().zip(&matched.0);
        all.filter(|(_, matched)| !**matched).map(|(text, _)| text)
    }

    /// Warnings about patterns that are probably mistakes.
    pub(super) fn doubts(&self, roots: &[PathBuf]) -> Vec<String> {
        doubts(&self.texts, roots)
    }

    /// Decides whether a file of this size, in bytes, is excluded.
    pub(super) fn is_too_large(&self, size_bytes: u64) -> bool {
        self.larger_than.is_some_and(|limit| size_bytes > limit)
    }

    /// Decides whether a path is excluded, and records the patterns that matched it.
    pub(super) fn excludes(&self, path: &Path, matched: &mut Matched) -> bool {
        let excluded = last_match(&self.patterns, path, matched);
        // Each list decides for itself, as in restic.
        let folded = || path.to_str().map(|path| PathBuf::from(path.to_lowercase()));
        let is_folded = !self.folded.is_empty()
            && last_match(&self.folded, folded().as_deref().unwrap_or(path), matched);
        excluded || is_folded
    }

    /// Decides whether a directory is excluded because of a marker file in it.
    pub(super) fn excludes_directory(&self, path: &Path) -> bool {
        self.if_present.iter().any(|marker| path.join(marker).exists())
            || self.caches && is_cache_tag(&path.join("CACHEDIR.TAG")).unwrap_or(false)
    }
}

/// Opens regular files only: reading a pipe would block forever.
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

/// Reports whether the last pattern that matches a path excludes it. Records all that match.
fn last_match(patterns: &[Pattern], path: &Path, matched: &mut Matched) -> bool {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in path.components() {
        components.push(if component == Component::RootDir {
            b"/"
        } else {
            component.as_os_str().as_bytes()
        });
    }
    let mut excluded = false;
    for pattern in patterns {
        if matches(&pattern.parts, &components) {
            matched.0[pattern.of] = true;
            excluded = !pattern.takes_back;
        }
    }
    excluded
}

/// The patterns in a file, as restic reads `--exclude-file`, but without variables.
fn lines_of(path: &Path) -> Result<Vec<String>, SourceError> {
    let text = fs::read_to_string(path).map_err(|cause| SourceError::Path {
        path: path.to_path_buf(),
        action: "read the patterns of `exclude_files`".into(),
        cause,
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// A size in bytes, as restic reads `--exclude-larger-than`.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Returns a warning for each pattern that is probably a mistake: it cannot match below these
/// roots, or does not mean what it seems to.
fn doubts(patterns: &[String], roots: &[PathBuf]) -> Vec<String> {
    let mut doubts = Vec::new();
    let mut any_before = false;
    for pattern in patterns {
        let takes_back = pattern.starts_with('!');
        let plain = pattern.strip_prefix('!').unwrap_or(pattern);
        let why = if plain.is_empty() {
            Some("it is empty and can match nothing")
        } else if plain.trim() != plain {
            Some("it begins or ends with a space, which is part of the pattern")
        } else if plain == "~" || plain.starts_with("~/") {
            Some("`~` is not expanded, so it can match nothing: write the directory's path")
        } else if plain.contains("$HOME") || plain.contains("${") {
            Some("variables are not expanded here: write the path")
        } else if plain.contains("[!") {
            Some("`[!x]` matches `!` and `x`: write `[^x]` for any character except `x`")
        } else if clean(plain).first().is_some_and(|first| *first == "." || *first == "..") {
            Some("paths are absolute, so `.` and `..` can match nothing")
        } else if takes_back && !any_before {
            Some("it includes again what earlier patterns exclude, but there is no earlier pattern")
        } else if plain.starts_with('/') && !roots.iter().any(|root| may_reach(plain, root)) {
            Some("it is not below any of `paths`, so it can match nothing")
        } else {
            None
        };
        doubts.extend(why.map(|why| format!("exclude pattern `{pattern}`: {why}")));
        any_before |= !takes_back;
    }
    doubts
}

/// Reports whether an absolute pattern can match a root, or something below or above it.
fn may_reach(pattern: &str, root: &Path) -> bool {
    let is_plain = |part: &&&str| !part.contains(['*', '?', '[', '\\', '{']);
    let parts = clean(pattern);
    // Skips the `/` that both begin with.
    let fixed: PathBuf = parts.iter().skip(1).take_while(is_plain).collect();
    let root = root.strip_prefix("/").unwrap_or(root);
    root.starts_with(&fixed) || fixed.starts_with(root)
}

/// A compiled pattern.
#[derive(Clone, Debug)]
struct Pattern {
    parts: Vec<Part>,
    takes_back: bool,
    /// Index of the pattern in the config.
    of: usize,
}

/// One component of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// `**`.
    AnyNumber,
    /// `*`.
    AnyOne,
    /// A name without special characters, or the leading `/`.
    Plain(Vec<u8>),
    Glob(Glob),
}

impl Pattern {
    /// Compiles a pattern. `None` for an empty one, which restic ignores.
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
            // Two in a row are equivalent to one.
            if part != Part::AnyNumber || parts.last() != Some(&part) {
                parts.push(part);
            }
        }
        // In restic, `/` alone matches everything.
        if parts == [Part::Plain(b"/".to_vec())] {
            parts.push(Part::AnyNumber);
        }
        Ok(Some(Self { parts, takes_back: plain.len() < text.len(), of }))
    }
}

/// Splits a path into components as Go's `filepath.Clean` does; the first component of an absolute
/// path is `/`.
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

/// Reports whether the parts match somewhere in a path, or from its root if they begin with `/`.
fn matches(parts: &[Part], path: &[&[u8]]) -> bool {
    if let Some(at) = parts.iter().position(|part| *part == Part::AnyNumber) {
        // Expands `**` to no component, one, two …
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

/// Expands `{a,b}` into all alternatives, after the pattern itself: braces without a comma are
/// plain characters.
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
        excludes.excludes(Path::new(path), &mut excludes.unmatched())
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
    fn patterns_of_files_and_without_case_count_too() {
        let home = tempfile::tempdir().unwrap();
        let list = home.path().join("excludes");
        fs::write(&list, "\u{feff}# comment\n\n  *.log  \r\n!keep.log\n").unwrap();
        let config = serde_json::json!({
            "paths": ["/t"], "exclude": ["*.tmp"], "exclude_files": [list], "iexclude": ["CACHE", "*.BAK"],
            "exclude_larger_than": "2K",
        });
        let excludes = Excludes::new(&serde_json::from_value(config).unwrap()).unwrap();
        let mut matched = excludes.unmatched();
        for (path, expected) in [
            ("/t/a.tmp", true),
            ("/t/a.TMP", false),
            ("/t/a.log", true),
            ("/t/keep.log", false),
            ("/t/Cache", true),
            ("/t/x.bak", true),
        ] {
            assert_eq!(excludes.excludes(Path::new(path), &mut matched), expected, "{path}");
        }
        assert_eq!(excludes.idle(&matched).count(), 0);
        assert_eq!(excludes.idle(&excludes.unmatched()).count(), 5);
        assert!(excludes.is_too_large(2049) && !excludes.is_too_large(2048));
    }

    #[test]
    fn a_size_and_a_file_of_patterns_that_cannot_be_read_are_faults() {
        for (config, why) in [
            (serde_json::json!({ "paths": ["/t"], "exclude_larger_than": "2X" }), "500M"),
            (
                serde_json::json!({ "paths": ["/t"], "exclude_files": ["/nonexistent"] }),
                "exclude_files",
            ),
        ] {
            let error = Excludes::new(&serde_json::from_value(config).unwrap()).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
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
            ("/u/cache", "not below any"),
            ("!x", "no earlier pattern"),
            ("", "empty"),
            ("[!a]x", "write `[^x]`"),
        ] {
            let doubts = doubts(doubtful);
            assert!(doubts.len() == 1 && doubts[0].contains(why), "{doubtful}: {doubts:?}");
        }
    }
}
