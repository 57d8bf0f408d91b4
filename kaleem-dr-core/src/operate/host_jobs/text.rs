//! Lines of scripts and units.

/// The lines of a text with their numbers, from 1, joined with lines that continue after a `\`.
/// Crontabs have no continuation lines.
pub(crate) fn joined(text: &str, continues: bool) -> Vec<(usize, Vec<&str>)> {
    let mut lines: Vec<(usize, Vec<&str>)> = Vec::new();
    let mut goes_on = false;
    for (at, line) in text.lines().enumerate() {
        let cut = line.strip_suffix('\\').filter(|_| continues);
        let piece = cut.unwrap_or(line);
        match lines.last_mut().filter(|_| goes_on) {
            Some((_, pieces)) => pieces.push(piece),
            None => lines.push((at + 1, vec![piece])),
        }
        goes_on = cut.is_some();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_backslash_continues_is_one_line() {
        let text = "a\nrestic forget \\\n  --prune\nb\\";
        let script = joined(text, true);
        assert_eq!(script[1], (2, vec!["restic forget ", "  --prune"]));
        assert_eq!(script[2], (4, vec!["b"]));
        assert_eq!(joined(text, false).len(), 4);
    }
}
