//! Debug files that were fetched before, where all clients of debuginfod keep them:
//! `<cache>/<build id>/debuginfo`. An empty file there says that no server had one.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{build_id_of, is_build_id};
use crate::target::{LastLink, Root};

/// After this long the servers are asked again.
const MISSING_FOR: Duration = Duration::from_secs(600);

/// The cache; absent when there is no place for it.
#[derive(Debug)]
pub(super) struct Cache(Option<PathBuf>);

/// What the cache knows.
#[derive(Debug)]
pub(super) enum Cached {
    /// The file.
    File(File),
    /// No server had it a moment ago.
    NotThere,
    /// Nothing.
    Nothing,
}

impl Cache {
    /// Where the environment says.
    pub(super) fn of_environment() -> Self {
        let folder = |variable: &str| {
            let value = std::env::var_os(variable)?;
            (!value.is_empty()).then(|| PathBuf::from(value))
        };
        let home = folder("HOME");
        let old = home
            .as_ref()
            .map(|home| home.join(".debuginfod_client_cache"));
        Self(
            folder("DEBUGINFOD_CACHE_PATH")
                .or_else(|| old.filter(|old| old.is_dir()))
                .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("debuginfod_client")))
                .or_else(|| Some(home?.join(".cache/debuginfod_client"))),
        )
    }

    /// Looks for the debug file of a build.
    pub(super) fn find(&self, build_id: &str) -> Cached {
        let Some(path) = self.folder(build_id).map(|folder| folder.join("debuginfo")) else {
            return Cached::Nothing;
        };
        // A link or a FIFO there is nobody's debug file.
        let opened = Root::own()
            .ok()
            .and_then(|root| root.file(&path, LastLink::Refused).ok());
        let Some((file, stat)) = opened else {
            return Cached::Nothing;
        };
        if stat.st_size == 0 {
            let noted = file.metadata().and_then(|metadata| metadata.modified());
            let age = noted
                .ok()
                .and_then(|at| SystemTime::now().duration_since(at).ok());
            return match age.is_some_and(|age| age < MISSING_FOR) {
                true => Cached::NotThere,
                false => Cached::Nothing,
            };
        }
        match build_id_of(&file, &path).as_deref() == Some(build_id) {
            true => Cached::File(file),
            false => Cached::Nothing,
        }
    }

    /// Keeps what a server sends, if it is of this build, and opens it.
    ///
    /// # Errors
    ///
    /// Why it is not taken.
    pub(super) fn store(
        &self,
        build_id: &str,
        mut body: impl Read,
        max_bytes: u64,
    ) -> Result<File, String> {
        let text = |error: std::io::Error| error.to_string();
        let folder = self.made_folder(build_id);
        let mut new = match &folder {
            Some(folder) => tempfile::NamedTempFile::new_in(folder),
            None => tempfile::NamedTempFile::new(),
        }
        .map_err(text)?;
        let length = std::io::copy(&mut body, &mut new).map_err(text)?;
        new.flush().map_err(text)?;
        if length > max_bytes {
            return Err(format!("the file has more than {max_bytes} bytes"));
        }
        let file = new.reopen().map_err(text)?;
        if build_id_of(&file, new.path()).as_deref() != Some(build_id) {
            return Err("the file is of another build".to_owned());
        }
        if let Some(folder) = folder {
            let kept =
                fs::set_permissions(new.path(), Permissions::from_mode(0o400)).and_then(|()| {
                    new.persist(folder.join("debuginfo"))
                        .map_err(|error| error.error)
                });
            if let Err(error) = kept {
                log::info!("a debug file is not kept in {}: {error}", folder.display());
            }
        }
        Ok(file)
    }

    /// Notes that no server has it.
    pub(super) fn note_missing(&self, build_id: &str) {
        let Some(folder) = self.made_folder(build_id) else {
            return;
        };
        let noted = tempfile::NamedTempFile::new_in(&folder).and_then(|empty| {
            empty
                .persist(folder.join("debuginfo"))
                .map_err(|error| error.error)
        });
        if let Err(error) = noted {
            log::info!("nothing can be noted in {}: {error}", folder.display());
        }
    }

    fn folder(&self, build_id: &str) -> Option<PathBuf> {
        let folder = self.0.as_ref()?;
        is_build_id(build_id).then(|| folder.join(build_id))
    }

    fn made_folder(&self, build_id: &str) -> Option<PathBuf> {
        let folder = self.folder(build_id)?;
        fs::create_dir_all(&folder).ok()?;
        Some(folder)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef";

    #[test]
    fn what_no_server_had_is_not_asked_for_again_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache(Some(folder.path().to_owned()));
        assert!(matches!(cache.find(ID), Cached::Nothing));
        cache.note_missing(ID);
        assert!(matches!(cache.find(ID), Cached::NotThere));
        let noted = File::open(folder.path().join(ID).join("debuginfo")).unwrap();
        let before = SystemTime::now() - 2 * MISSING_FOR;
        noted.set_modified(before).unwrap();
        assert!(matches!(cache.find(ID), Cached::Nothing));
    }

    #[test]
    fn a_file_of_another_build_is_neither_kept_nor_found() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache(Some(folder.path().to_owned()));
        let refused = cache.store(ID, &b"no ELF file"[..], 100).unwrap_err();
        assert_eq!(refused, "the file is of another build");
        let refused = cache.store(ID, &[0; 200][..], 100).unwrap_err();
        assert!(refused.contains("more than 100"), "{refused}");
        assert!(matches!(cache.find(ID), Cached::Nothing));
        fs::write(folder.path().join(ID).join("debuginfo"), "no ELF file").unwrap();
        assert!(matches!(cache.find(ID), Cached::Nothing));
    }

    #[test]
    fn without_a_place_nothing_is_found_and_nothing_breaks() {
        let cache = Cache(None);
        cache.note_missing(ID);
        assert!(matches!(cache.find(ID), Cached::Nothing));
        assert!(
            Cache(Some(PathBuf::from("/proc/nothing")))
                .made_folder(ID)
                .is_none()
        );
    }
}
