//! Checks whether a server of one version accepts the snapshots of another.
//!
//! Qdrant guarantees it only within one minor version, does not check it itself, and answers 500 to
//! segments that are newer than itself: by then it may leave a broken collection behind.

use kaleem_dr_core::ground::SourceError;

/// Parses `major.minor.patch`; a suffix after `-` or `+` is ignored.
fn parse(version: &str) -> Option<(u64, u64, u64)> {
    let plain = version.trim().trim_start_matches('v').split(['-', '+']).next()?;
    let mut numbers = plain.split('.').map(|number| number.parse().ok());
    match (numbers.next()??, numbers.next()??, numbers.next()??, numbers.next()) {
        (major, minor, patch, None) => Some((major, minor, patch)),
        _ => None,
    }
}

/// Succeeds if the server has the same minor version as the snapshot, and is not older. An
/// unparsable version is a warning.
///
/// # Errors
/// [`SourceError::Refused`], with advice.
pub(super) fn check(captured: Option<&str>, live: &str) -> Result<Option<String>, SourceError> {
    let Some(captured) = captured else {
        return Ok(Some(format!(
            "the file does not record which Qdrant made it; this one is {live}, and a snapshot of another minor version may not be accepted"
        )));
    };
    let (Some(made), Some(found)) = (parse(captured), parse(live)) else {
        return Ok(Some(format!(
            "versions {captured} (captured) and {live} (here) cannot be compared"
        )));
    };
    let (major, minor, patch) = made;
    let upgrade = if (found.0, found.1) > (major, minor) {
        " and then upgrade that server, one minor version after the other"
    } else {
        ""
    };
    if (found.0, found.1) == (major, minor) && found.2 >= patch {
        return Ok(None);
    }
    Err(SourceError::Refused(format!(
        "the snapshot is of Qdrant {captured}, but the server is Qdrant {live}: Qdrant restores within one minor version only, into the \
         same or a later patch; start a Qdrant {major}.{minor}.{patch} (or a later {major}.{minor}), restore into that{upgrade}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_minor_version_and_no_older_patch_is_taken() {
        for live in ["1.18.2", "1.18.10", "v1.18.2-dev"] {
            assert_eq!(check(Some("1.18.2"), live).unwrap(), None, "{live}");
        }
        for live in ["1.18.1", "1.17.9", "1.19.0", "2.18.2"] {
            let error = check(Some("1.18.2"), live).unwrap_err();
            assert!(
                matches!(&error, SourceError::Refused(why) if why.contains("start a Qdrant 1.18.2")),
                "{live}: {error}"
            );
        }
        assert!(
            check(Some("1.18.2"), "1.19.0")
                .unwrap_err()
                .to_string()
                .ends_with("one minor version after the other")
        );
    }

    #[test]
    fn an_unknown_version_is_a_warning() {
        assert!(check(None, "1.18.2").unwrap().unwrap().contains("does not record"));
        assert!(check(Some("nightly"), "1.18.2").unwrap().unwrap().contains("cannot be compared"));
    }
}
