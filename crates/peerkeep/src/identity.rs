//! The node's own key and the one file that keeps it. The file is text: `peerkeep-ed25519-seed-v1`, a space, the 32
//! bytes of the RFC 8032 seed in hex, a line end. It is never replaced, never readable by others, and never printed;
//! a file that is not exactly right is refused with the reason (faults I9 and K12), because a new identity in its place
//! would make this node a stranger to everybody who knows it.

use crate::{PeerId, hex};
use peerkeep_core::PeerKey;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The identity's file name in the data folder.
pub const IDENTITY_FILE: &str = "identity.key";

const TAG: &str = "peerkeep-ed25519-seed-v1 ";
const TEXT_BYTES: usize = TAG.len() + 64 + 1;

/// A node's Ed25519 key. It has no `Debug` and is wiped from memory when dropped.
#[derive(Clone)]
pub struct Identity {
    seed: Zeroizing<[u8; 32]>,
    key: PeerKey,
}

/// Why an identity cannot be used, made or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is no such file.
    #[error("there is no identity file {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is one already; it is never replaced.
    #[error("{} exists already; an identity is never replaced", path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// It is a symbolic link, a folder or a device.
    #[error("{} is not a plain file (a symbolic link is not followed)", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// Others may read or write it.
    #[error("{} can be read by others (mode {mode:03o}); run: chmod 600 {}", path.display(), path.display())]
    Mode {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to user {owner}, not to user {me} who runs this", path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        me: u32,
    },
    /// Its content is not an identity.
    #[error("{} does not hold an identity: {why}; restore it from a copy, a new one is not made over it", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// A text to import is not an identity.
    #[error("this is not an exported identity: {0}")]
    Text(&'static str),
    /// The operating system gave no randomness; there is no fallback.
    #[error("the operating system gave no randomness")]
    NoRandomness,
    /// It cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

impl Identity {
    /// A new one from the operating system's randomness.
    ///
    /// # Errors
    /// When there is none.
    pub fn generate() -> Result<Identity, IdentityError> {
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(&mut seed[..]).map_err(|_| IdentityError::NoRandomness)?;
        Ok(Identity::from_seed(&seed))
    }

    /// The identity with that RFC 8032 seed.
    ///
    /// # Panics
    /// Never: every 32 bytes are a seed.
    pub fn from_seed(seed: &[u8; 32]) -> Identity {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("32 bytes are a seed");
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Identity { seed: Zeroizing::new(*seed), key: PeerKey::ed25519(public) }
    }

    /// The public name.
    pub fn id(&self) -> PeerId {
        PeerId(self.key)
    }

    /// The private seed.
    ///
    /// # Security
    /// Whoever holds it is this node.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The text that `import` takes: the content of the file.
    ///
    /// # Security
    /// Whoever holds it is this node.
    pub fn export(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(TEXT_BYTES));
        text.push_str(TAG);
        hex::encode(&self.seed[..], &mut text);
        text.push('\n');
        text
    }

    /// From an exported text; surrounding white space does not matter.
    ///
    /// # Errors
    /// [`IdentityError::Text`] with what is wrong.
    pub fn import(text: &str) -> Result<Identity, IdentityError> {
        let digits = text
            .trim()
            .strip_prefix(TAG.trim_end())
            .ok_or(IdentityError::Text("it does not begin with `peerkeep-ed25519-seed-v1`"))?
            .trim();
        let seed = hex::decode_32(digits).map(Zeroizing::new);
        let seed = seed.ok_or(IdentityError::Text("its key is not 64 hex digits"))?;
        Ok(Identity::from_seed(&seed))
    }

    /// Reads the file, refusing one that others could read, that belongs to somebody else, that is a symbolic link or
    /// that has any other content (fault I9).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(path: &Path) -> Result<Identity, IdentityError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) => return Err(IdentityError::Missing { path: path.into() }),
            Err(rustix::io::Errno::LOOP) => return Err(IdentityError::NotAFile { path: path.into() }),
            Err(errno) => return Err(io_error(path, errno.into())),
        };
        let about = file.metadata().map_err(|error| io_error(path, error))?;
        if !about.is_file() {
            return Err(IdentityError::NotAFile { path: path.into() });
        }
        let me = rustix::process::geteuid().as_raw();
        if about.uid() != me {
            return Err(IdentityError::Owner { path: path.into(), owner: about.uid(), me });
        }
        if about.mode() & 0o077 != 0 {
            return Err(IdentityError::Mode { path: path.into(), mode: about.mode() & 0o777 });
        }
        let mut text = Zeroizing::new(String::with_capacity(TEXT_BYTES + 1));
        let limit = u64::try_from(TEXT_BYTES + 1).unwrap_or(u64::MAX);
        if let Err(error) = file.take(limit).read_to_string(&mut text) {
            if error.kind() == io::ErrorKind::InvalidData {
                return Err(content(path, "it is not text"));
            }
            return Err(io_error(path, error));
        }
        match text.len() {
            0 => Err(content(path, "it is empty")),
            TEXT_BYTES => Identity::import(&text).map_err(|error| match error {
                IdentityError::Text(why) => content(path, why),
                other => other,
            }),
            _ => Err(content(path, "it has the wrong length")),
        }
    }

    /// Writes it to a file that must not exist yet, mode 0600, and makes sure it is on the disk.
    ///
    /// # Errors
    /// [`IdentityError::Exists`] when there is one; it is left alone.
    pub fn create(&self, path: &Path) -> Result<(), IdentityError> {
        if std::fs::symlink_metadata(path).is_ok() {
            return Err(IdentityError::Exists { path: path.into() });
        }
        // Whole or not at all (fault K1): a crash leaves at most the temporary file, which is in nobody's way.
        let temporary = path.with_extension(format!("new-{}", std::process::id()));
        let _ = std::fs::remove_file(&temporary);
        let written = write_new(&temporary, self.export().as_bytes());
        let placed = written.and_then(|()| {
            // A hard link, unlike a rename, fails when the name is taken.
            std::fs::hard_link(&temporary, path)?;
            sync_folder(path)
        });
        let _ = std::fs::remove_file(&temporary);
        match placed {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(IdentityError::Exists { path: path.into() })
            }
            Err(error) => Err(io_error(path, error)),
        }
    }

    /// Reads the file, or makes a new identity when there is no file at all. The second value says it is new.
    ///
    /// # Errors
    /// As [`Identity::load`] and [`Identity::create`].
    pub fn load_or_create(path: &Path) -> Result<(Identity, bool), IdentityError> {
        match Identity::load(path) {
            Ok(identity) => Ok((identity, false)),
            Err(IdentityError::Missing { .. }) => {
                let identity = Identity::generate()?;
                identity.create(path)?;
                Ok((identity, true))
            }
            Err(error) => Err(error),
        }
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn io_error(path: &Path, error: io::Error) -> IdentityError {
    IdentityError::Io { path: path.into(), error }
}

fn content(path: &Path, why: &'static str) -> IdentityError {
    IdentityError::Content { path: path.into(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    fn put(path: &Path, bytes: &[u8], mode: u32) {
        std::fs::write(path, bytes).expect("writes");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("sets the mode");
    }

    #[test]
    fn made_once_and_read_back_with_mode_0600() {
        let folder = folder();
        let path = folder.path().join(IDENTITY_FILE);
        let (made, new) = Identity::load_or_create(&path).expect("makes one");
        assert!(new);
        let (read, new) = Identity::load_or_create(&path).expect("reads it");
        assert!(!new);
        assert_eq!(made.id(), read.id());
        let about = std::fs::metadata(&path).expect("is there");
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
        let files = std::fs::read_dir(folder.path()).expect("lists").count();
        assert_eq!(files, 1, "no temporary file is left");
    }

    #[test]
    fn export_and_import_are_inverse() {
        let identity = Identity::from_seed(&[7; 32]);
        let text = identity.export();
        assert_eq!(text.len(), TEXT_BYTES);
        let back = Identity::import(&text).map(|identity| identity.id());
        assert_eq!(back.ok(), Some(identity.id()));
        for bad in ["", "peerkeep-ed25519-seed-v1", "peerkeep-ed25519-seed-v2 00", &text[..80]] {
            assert!(Identity::import(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_existing_identity_is_never_replaced() {
        let folder = folder();
        let path = folder.path().join(IDENTITY_FILE);
        let old = Identity::generate().expect("generates");
        old.create(&path).expect("creates");
        let other = Identity::generate().expect("generates");
        assert!(matches!(other.create(&path), Err(IdentityError::Exists { .. })));
        assert_eq!(Identity::load(&path).map(|i| i.id()).ok(), Some(old.id()));
    }

    #[test]
    fn fault_i9_a_file_that_is_not_right_is_refused_and_left_alone() {
        let folder = folder();
        let path = folder.path().join(IDENTITY_FILE);
        let good = Identity::from_seed(&[3; 32]).export();
        let longer = format!("{}0", good.as_str());
        for bad in [&b""[..], b"x", &good.as_bytes()[..40], longer.as_bytes(), &[0xff; 90], &[b'z'; 90]] {
            put(&path, bad, 0o600);
            let result = Identity::load_or_create(&path).map(|_| ());
            assert!(matches!(result, Err(IdentityError::Content { .. })), "{result:?}");
            assert_eq!(std::fs::read(&path).expect("still there"), bad);
        }
    }

    #[test]
    fn fault_i9_a_file_others_can_read_is_refused() {
        let folder = folder();
        let path = folder.path().join(IDENTITY_FILE);
        let good = Identity::from_seed(&[3; 32]).export();
        for mode in [0o640, 0o604, 0o660, 0o644, 0o666] {
            put(&path, good.as_bytes(), mode);
            let error = Identity::load(&path).map(|_| ()).expect_err("is refused");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn fault_k12_symlinks_and_folders_are_refused() {
        let folder = folder();
        let real = folder.path().join("real");
        put(&real, Identity::from_seed(&[3; 32]).export().as_bytes(), 0o600);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&real, &link).expect("links");
        assert!(matches!(Identity::load(&link), Err(IdentityError::NotAFile { .. })));
        let dangling = folder.path().join("dangling");
        std::os::unix::fs::symlink(folder.path().join("nowhere"), &dangling).expect("links");
        assert!(matches!(Identity::load_or_create(&dangling), Err(IdentityError::NotAFile { .. })));
        assert!(matches!(Identity::load(folder.path()), Err(IdentityError::NotAFile { .. })));
    }

    #[test]
    fn fault_k12_a_file_of_another_user_is_refused() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root to give a file away");
            return;
        }
        let folder = folder();
        let path = folder.path().join(IDENTITY_FILE);
        put(&path, Identity::from_seed(&[3; 32]).export().as_bytes(), 0o600);
        std::os::unix::fs::chown(&path, Some(65534), None).expect("gives it away");
        assert!(matches!(Identity::load(&path), Err(IdentityError::Owner { .. })));
    }
}
