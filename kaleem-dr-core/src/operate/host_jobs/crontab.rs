//! Lines of crontabs.

/// The system's directory of crontabs, whose lines contain a user.
pub(crate) const SYSTEM_DIRECTORY: &str = "/etc/cron.d";
/// Directories of scripts that cron runs.
pub(crate) const SCRIPT_DIRECTORIES: [&str; 4] =
    ["/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly", "/etc/cron.monthly"];

/// A line that starts a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CronEntry<'a> {
    /// The five fields of its time, or the single one that begins with `@`.
    pub(crate) fields: Vec<&'a str>,
    /// The command, without the user in the system's crontabs.
    pub(crate) command: &'a str,
}

/// Parses a line; `None` for a comment, a variable or an empty line.
pub(crate) fn entry(line: &str, with_user: bool) -> Option<CronEntry<'_>> {
    let line = line.trim();
    let first = line.split_whitespace().next()?;
    if line.starts_with('#') || first.contains('=') {
        return None;
    }
    let (mut fields, mut rest) = (Vec::new(), line);
    for _ in 0..(if line.starts_with('@') { 1 } else { 5 }) {
        let (field, after) = cut(rest);
        fields.extend((!field.is_empty()).then_some(field));
        rest = after;
    }
    if with_user {
        rest = cut(rest).1;
    }
    Some(CronEntry { fields, command: rest })
}

/// The first word, and the rest without the space between.
fn cut(text: &str) -> (&str, &str) {
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (first, rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_its_times_and_its_command() {
        let of = |line, with_user| {
            entry(line, with_user).map(|entry| (entry.fields.join(" "), entry.command.to_owned()))
        };
        let is = |fields: &str, command: &str| Some((fields.to_owned(), command.to_owned()));
        assert_eq!(of("0 3  * * * root /bin/a  -x", true), is("0 3 * * *", "/bin/a  -x"));
        assert_eq!(of("@daily restic backup /etc", false), is("@daily", "restic backup /etc"));
        assert_eq!(of("0 3 * *", true), is("0 3 * *", ""));
        for nothing in ["", "# 0 3 * * * root x", "MAILTO=root"] {
            assert_eq!(of(nothing, true), None, "{nothing:?}");
        }
    }
}
