//! A single component of a pattern, as in Go's `filepath.Match`: `*`, `?`, `[a-z]`, `[^a]` and `\`
//! before a plain character.

/// A compiled pattern for one file name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob(Vec<Token>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// `*`.
    Star,
    /// `?`.
    One,
    Plain(u8),
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// # Errors
    /// The reason why the pattern is invalid.
    pub(super) fn new(text: &str) -> Result<Self, &'static str> {
        let mut tokens = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '*' => tokens.push(Token::Star),
                '?' => tokens.push(Token::One),
                '[' => {
                    let (class, after) = class(rest.as_str())?;
                    tokens.push(class);
                    rest = after.chars();
                }
                '\\' => plain(&mut tokens, rest.next().ok_or("nothing follows its last `\\`")?),
                c => plain(&mut tokens, c),
            }
        }
        Ok(Self(tokens))
    }

    pub(super) fn matches(&self, name: &[u8]) -> bool {
        // On a mismatch, back up to the last star and let it match one more character.
        let (mut tokens, mut rest) = (&self.0[..], name);
        let mut retry: Option<(&[Token], &[u8])> = None;
        loop {
            let step = match tokens.split_first() {
                None if rest.is_empty() => return true,
                None => None,
                Some((Token::Star, after)) => {
                    retry = Some((after, rest));
                    Some((after, rest))
                }
                Some((Token::Plain(byte), after)) => {
                    rest.strip_prefix(&[*byte]).map(|rest| (after, rest))
                }
                Some((Token::One, after)) => character(rest).map(|(_, rest)| (after, rest)),
                Some((Token::Class { negated, ranges }, after)) => character(rest)
                    .filter(|(c, _)| {
                        ranges.iter().any(|(low, high)| low <= c && c <= high) != *negated
                    })
                    .map(|(_, rest)| (after, rest)),
            };
            (tokens, rest) = match (step, retry) {
                (Some(step), _) => step,
                (None, Some((after, [_, further @ ..]))) => {
                    retry = Some((after, further));
                    (after, further)
                }
                (None, _) => return false,
            };
        }
    }
}

fn plain(tokens: &mut Vec<Token>, c: char) {
    tokens.extend(c.encode_utf8(&mut [0; 4]).bytes().map(Token::Plain));
}

fn class(text: &str) -> Result<(Token, &str), &'static str> {
    const OPEN: &str = "its `[` is not closed, or contains no valid range";
    let negated = text.starts_with('^');
    let mut rest = text.strip_prefix('^').unwrap_or(text);
    let mut ranges = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(']')
            && !ranges.is_empty()
        {
            return Ok((Token::Class { negated, ranges }, after));
        }
        let (low, after) = bound(rest).ok_or(OPEN)?;
        let (high, after) = match after.strip_prefix('-') {
            Some(after) => bound(after).ok_or(OPEN)?,
            None => (low, after),
        };
        ranges.push((low, high));
        rest = after;
    }
}

/// Parses one end of a range.
fn bound(text: &str) -> Option<(char, &str)> {
    let mut chars = text.chars();
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next().map(|c| (c, chars.as_str())),
        c => Some((c, chars.as_str())),
    }
}

/// Splits off the first character of a name; a byte that is not UTF-8 counts as one character.
fn character(name: &[u8]) -> Option<(char, &[u8])> {
    let length =
        (1..=name.len().min(4)).find(|&length| std::str::from_utf8(&name[..length]).is_ok());
    match length {
        Some(length) => {
            let c = std::str::from_utf8(&name[..length]).ok()?.chars().next()?;
            Some((c, &name[length..]))
        }
        None => name.split_first().map(|(_, rest)| (char::REPLACEMENT_CHARACTER, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_go() {
        for (pattern, name, expected) in [
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("*a", "aaa", true),
            ("?", "é", true),
            ("?", "ab", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[é-ü]", "ö", true),
            ("a[", "a[", false),
            ("\\[a", "[a", true),
            ("*", "", true),
            ("", "", true),
        ] {
            let matches = Glob::new(pattern).is_ok_and(|glob| glob.matches(name.as_bytes()));
            assert_eq!(matches, expected, "{pattern} {name}");
        }
        assert!(Glob::new("?").unwrap().matches(b"\xff"));
    }
}
