//! The config that a recovery runs with: restored files must not replace it, or the recovery could
//! not continue. It is put back, and the restored one is kept next to it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::super::{Site, SiteError};
use crate::ground::{SourceName, durable_file};

/// The ending of the restored config's name.
const RESTORED: &str = "restored";
/// Name of the copy in the state directory, for a recovery that was killed before it put its config
/// back.
const COPY: &str = "recovery-config.toml";
const MODE: u32 = 0o600;

/// The content of a site's config before the recovery.
pub(super) struct OwnConfig {
    path: PathBuf,
    content: Option<Vec<u8>>,
}

impl OwnConfig {
    /// Reads the config, and copies it into the state directory. `is_interrupted` reports whether a
    /// killed attempt may have left a restored config in its place.
    ///
    /// # Errors
    /// [`SiteError::Refused`] if the config differs from that of the killed attempt.
    pub(super) fn read(site: &Site, is_interrupted: bool) -> Result<Self, SiteError> {
        let copy = site.config.settings.state_directory.join(COPY);
        let failed = |cause| SiteError::File {
            path: copy.clone(),
            action: "keep a copy of the config",
            cause,
        };
        // A config of variables has no file, and nothing replaces it.
        let content = existing(&site.path).map_err(failed)?;
        if let Some(content) = &content {
            let before = existing(&copy).map_err(failed)?;
            if is_interrupted && before.as_ref().is_some_and(|before| before != content) {
                let (path, copy) = (site.path.display(), copy.display());
                return Err(SiteError::Refused(format!(
                    "{path} changed since the interrupted recovery, perhaps because restored files replaced it; continue with the previous one (cp \
                     {copy} {path}), or with this one (rm {copy})"
                )));
            }
            durable_file::replace(&copy, content, MODE).map_err(failed)?;
        }
        Ok(Self { path: site.path.clone(), content })
    }

    /// Puts it back if the restore of a source has replaced it; returns a note then.
    pub(super) fn put_back(&self, source: &SourceName) -> Option<String> {
        let content = self.content.as_ref()?;
        let found = fs::read(&self.path).ok()?;
        if found == *content {
            return None;
        }
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{RESTORED}"));
        let kept = PathBuf::from(name);
        let done = durable_file::replace(&kept, &found, MODE)
            .and_then(|()| durable_file::replace(&self.path, content, MODE));
        let (config, kept) = (self.path.display(), kept.display());
        Some(match done {
            Ok(()) => format!(
                "source {source} contains an older {config}: it is in {kept}, and the config of this recovery is unchanged"
            ),
            Err(error) => format!(
                "source {source} has replaced {config}, and it cannot be put back ({error}): check its `host` and its repositories"
            ),
        })
    }
}

fn existing(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
