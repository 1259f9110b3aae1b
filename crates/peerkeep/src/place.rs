//! The data folder: made private, refused when others could tamper with it (fault K12), and locked so that one node
//! uses it at a time (fault L5). Nothing is deleted here.

use crate::PlaceError;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A data folder that this process alone uses, as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The lock lasts as long as the file is open, also when the process is killed.
    _lock: File,
}

impl DataDir {
    /// Makes the folder if need be (mode 0700), checks it and locks it.
    ///
    /// # Errors
    /// What is wrong with it, or that another node uses it; nothing in it is touched then.
    pub fn open(path: &Path) -> Result<DataDir, PlaceError> {
        DataDir::check(path)?;
        let lock = path.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&lock, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| io_error(&lock, errno.into()))?;
        let mut file = File::from(fd);
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(PlaceError::InUse { path: path.into() }),
            Err(errno) => return Err(io_error(&lock, errno.into())),
        }
        // Only for people who look; on a full disk the node starts all the same.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(DataDir { path: path.into(), _lock: file })
    }

    /// Makes the folder if need be and checks it, without locking: for commands that read beside a running node.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(path: &Path) -> Result<(), PlaceError> {
        let about = match std::fs::symlink_metadata(path) {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
                made.and_then(|()| std::fs::symlink_metadata(path)).map_err(|error| io_error(path, error))?
            }
            Err(error) => return Err(io_error(path, error)),
        };
        if !about.is_dir() {
            return Err(PlaceError::NotAFolder { path: path.into() });
        }
        let me = rustix::process::geteuid().as_raw();
        if about.uid() != me {
            return Err(PlaceError::Owner { path: path.into(), owner: about.uid(), me });
        }
        if about.mode() & 0o022 != 0 {
            return Err(PlaceError::Writable { path: path.into(), mode: about.mode() & 0o777 });
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn io_error(path: &Path, error: io::Error) -> PlaceError {
    PlaceError::Io { path: path.into(), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn a_new_folder_is_private() {
        let folder = folder();
        let path = folder.path().join("a/b");
        let _place = DataDir::open(&path).expect("opens");
        let mode = std::fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn fault_l5_a_second_node_leaves_the_folder_alone() {
        let folder = folder();
        let path = folder.path().join("data");
        let first = DataDir::open(&path).expect("opens");
        assert!(matches!(DataDir::open(&path), Err(PlaceError::InUse { .. })));
        drop(first);
        assert!(DataDir::open(&path).is_ok(), "free again");
    }

    #[test]
    fn fault_k12_symlinks_files_and_writable_folders_are_refused() {
        let folder = folder();
        let real = folder.path().join("real");
        std::fs::create_dir(&real).expect("makes");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&real, &link).expect("links");
        assert!(matches!(DataDir::open(&link), Err(PlaceError::NotAFolder { .. })));
        let file = folder.path().join("file");
        std::fs::write(&file, b"").expect("writes");
        assert!(matches!(DataDir::open(&file), Err(PlaceError::NotAFolder { .. })));
        for mode in [0o777, 0o770, 0o702] {
            std::fs::set_permissions(&real, std::fs::Permissions::from_mode(mode)).expect("sets the mode");
            let error = DataDir::open(&real).expect_err("is refused").to_string();
            assert!(error.contains("chmod go-w"), "{error}");
        }
        std::os::unix::fs::symlink("/nowhere/lock", real.join("lock")).expect("links");
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o700)).expect("sets the mode");
        assert!(matches!(DataDir::open(&real), Err(PlaceError::Io { .. })), "the lock is no way out");
    }

    #[test]
    fn fault_k12_a_folder_of_another_user_is_refused() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root to give a folder away");
            return;
        }
        let folder = folder();
        let path = folder.path().join("data");
        std::fs::create_dir(&path).expect("makes");
        std::os::unix::fs::chown(&path, Some(65534), None).expect("gives it away");
        assert!(matches!(DataDir::open(&path), Err(PlaceError::Owner { .. })));
    }
}
