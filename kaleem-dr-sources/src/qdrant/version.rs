//! Checks whether a server of one version accepts the snapshots of another.
//!
//! Qdrant guarantees it only within one minor version, does not check it itself, and answers 500 to
//! segments that are newer than itself: by then it may leave a broken collection behind.

/// Parses `major.minor.patch`; a suffix after `-` or `+` is ignored.
fn parse(version: &str) -> Option<(u64, u64, u64)> {
    let plain = version.trim().trim_start_matches('v').split(['-', '+']).next()?;
    let mut numbers = plain.split('.').map(|number| number.parse().ok());
    match (numbers.next()??, numbers.next()??, numbers.next()??, numbers.next()) {
        (major, minor, patch, None) => Some((major, minor, patch)),
        _ => None,
    }
}

/// The relation of a server's release to that of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// The same minor version, and the server is not older: it accepts the files.
    Files,
    /// It is not known, for this reason.
    Unknown(String),
    /// It refuses the files, for this reason, with advice.
    Refused(String),
}

/// Compares the release that made a snapshot with that of a server.
pub(super) fn fit(captured: Option<&str>, live: &str) -> Fit {
    let Some(captured) = captured else {
        return Fit::Unknown(format!(
            "the file does not record which Qdrant made it; this one is {live}, and a snapshot of another minor version may not be accepted"
        ));
    };
    let (Some(made), Some(found)) = (parse(captured), parse(live)) else {
        return Fit::Unknown(format!(
            "versions {captured} (captured) and {live} (here) cannot be compared"
        ));
    };
    let (major, minor, patch) = made;
    let upgrade = if (found.0, found.1) > (major, minor) {
        " and then upgrade that server, one minor version after the other"
    } else {
        ""
    };
    if (found.0, found.1) == (major, minor) && found.2 >= patch {
        return Fit::Files;
    }
    Fit::Refused(format!(
        "the snapshot is of Qdrant {captured}, but the server is Qdrant {live}: Qdrant restores within one minor version only, into the \
         same or a later patch; start a Qdrant {major}.{minor}.{patch} (or a later {major}.{minor}), restore into that{upgrade}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_minor_version_and_no_older_patch_is_taken() {
        for live in ["1.18.2", "1.18.10", "v1.18.2-dev"] {
            assert_eq!(fit(Some("1.18.2"), live), Fit::Files, "{live}");
        }
        for live in ["1.18.1", "1.17.9", "1.19.0", "2.18.2"] {
            let found = fit(Some("1.18.2"), live);
            assert!(
                matches!(&found, Fit::Refused(why) if why.contains("start a Qdrant 1.18.2")),
                "{live}: {found:?}"
            );
        }
        let newer = fit(Some("1.18.2"), "1.19.0");
        let advice = "one minor version after the other";
        assert!(matches!(&newer, Fit::Refused(why) if why.ends_with(advice)), "{newer:?}");
    }

    #[test]
    fn an_unknown_version_is_a_warning() {
        for (captured, told) in [(None, "does not record"), (Some("nightly"), "cannot be compared")]
        {
            let found = fit(captured, "1.18.2");
            assert!(matches!(&found, Fit::Unknown(why) if why.contains(told)), "{found:?}");
        }
    }
}
