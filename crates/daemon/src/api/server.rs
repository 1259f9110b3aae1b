//! The unix socket under the API: made with mode 0600 (0660 for a group, when one is named), served only to the same
//! user, that group and root, with limits on connections, headers and time. A stale socket is replaced; somebody else's file is not touched (faults A4, A14).

use super::group::Group;
use super::stall::Stall;
use super::{Problem, VERSION, VERSION_HEADER};
use crate::exit::{Code, Failure};
use axum::Router;
use axum::http::{HeaderValue, StatusCode};
use axum::response::IntoResponse;
use futures::FutureExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

/// Most connections at once; more wait in the kernel's backlog.
const MAX_CONNECTIONS: u32 = 64;
/// A client that has not sent its headers by then is dropped.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// A client that takes nothing of its answer for so long is dropped.
const STALL_TIME: Duration = Duration::from_secs(30);
/// Callers that are still answered when the rest of the process has used up all descriptors (fault R1).
const RESERVE: usize = 4;
/// Time for answers on their way when the daemon ends.
const LAST_WORDS: Duration = Duration::from_millis(500);
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// The bound socket; its file goes when this goes.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
    group: Arc<RwLock<Option<Group>>>,
}

/// Changes who may enter while the socket is served.
#[derive(Debug, Clone)]
pub struct Gate {
    path: PathBuf,
    group: Arc<RwLock<Option<Group>>>,
}

impl Gate {
    /// From now on that group may enter as well, or none.
    ///
    /// # Errors
    /// The socket's mode or group cannot be changed.
    pub fn admit(&self, group: Option<Group>) -> Result<(), Failure> {
        open_to(&self.path, group.as_ref())
            .map_err(|error| Failure::failed(format!("the API socket {}: {error}", self.path.display())))?;
        *self.group.write().unwrap_or_else(PoisonError::into_inner) = group;
        Ok(())
    }
}

/// Mode and group of the socket's file.
fn open_to(path: &Path, group: Option<&Group>) -> std::io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(if group.is_some() { 0o660 } else { 0o600 }))?;
    match group {
        Some(group) => std::os::unix::fs::chown(path, None, Some(group.gid)),
        None => Ok(()),
    }
}

/// Binds the socket, for the owner and, if there is one, a group. The caller holds the data folder's lock, so a socket that is there already is stale.
///
/// # Errors
/// The path is too long, belongs to somebody else, is no socket, or somebody still answers there.
pub fn bind(path: &Path, group: Option<Group>) -> Result<Listening, Failure> {
    let told = |what: String| Failure::failed(format!("the API socket {}: {what}", path.display()));
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(told("something that is not a socket is in its place".into()).next("move it away"));
        }
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(told(format!("belongs to user {}", found.uid()))
                .next("use a data folder of your own: --data DIR"));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(Failure::new(
                Code::Running,
                format!("somebody already answers on {}", path.display()),
            ));
        }
        fs::remove_file(path).map_err(|error| told(error.to_string()))?;
        tracing::debug!(path = %path.display(), "stale API socket removed");
    }
    // Made under another name and moved: nobody can connect before the mode is set.
    let fresh = path.with_extension(format!("{}", std::process::id()));
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(|error| {
        told(error.to_string()).next("a socket's path may have 100 characters; use a shorter --data DIR")
    })?;
    let placed = open_to(&fresh, group.as_ref())
        .and_then(|()| fs::rename(&fresh, path))
        .and_then(|()| fs::symlink_metadata(path));
    match placed {
        Ok(found) => {
            let group = Arc::new(RwLock::new(group));
            Ok(Listening { listener, path: path.to_owned(), inode: found.ino(), group })
        }
        Err(error) => {
            let _ = fs::remove_file(&fresh);
            Err(told(error.to_string()))
        }
    }
}

impl Listening {
    /// The handle that changes who may enter.
    pub fn gate(&self) -> Gate {
        Gate { path: self.path.clone(), group: self.group.clone() }
    }

    /// Serves until `stop` turns true; clients that are being answered then have a moment to read the last of it.
    pub async fn serve(self, router: Router, stop: watch::Receiver<bool>) {
        let slots = Arc::new(Semaphore::new(usize::try_from(MAX_CONNECTIONS).unwrap_or(1)));
        self.accept(router, stop, &slots).await;
        let _ = tokio::time::timeout(LAST_WORDS, slots.acquire_many(MAX_CONNECTIONS)).await;
    }

    async fn accept(&self, router: Router, mut stop: watch::Receiver<bool>, slots: &Arc<Semaphore>) {
        let us = rustix::process::geteuid().as_raw();
        let reserve = Arc::new(Reserve::default());
        loop {
            reserve.fill();
            let slot = tokio::select! {
                slot = slots.clone().acquire_owned() => slot,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let Ok(slot) = slot else { return };
            let accepted = tokio::select! {
                accepted = reserve.accept(&self.listener) => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the API could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let group = self.group.read().unwrap_or_else(PoisonError::into_inner).clone();
            let router = if may_enter(&stream, us, group.as_ref()) { router.clone() } else { turned_away() };
            let reserve = reserve.clone();
            tokio::spawn(async move {
                serve_one(stream, router).await;
                // Before the process finds another use for the descriptor.
                reserve.fill();
                drop(slot);
            });
        }
    }
}

/// Descriptors kept back, given up one by one for callers who could not be let in otherwise.
#[derive(Default)]
struct Reserve(Mutex<Vec<fs::File>>);

impl Reserve {
    fn fill(&self) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.len() < RESERVE {
            let Ok(file) = fs::File::open("/dev/null") else { return };
            kept.push(file);
        }
    }

    fn give_one_up(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().is_some()
    }

    /// Cancel-safe.
    async fn accept(
        &self,
        listener: &UnixListener,
    ) -> std::io::Result<(UnixStream, tokio::net::unix::SocketAddr)> {
        loop {
            match listener.accept().await {
                Err(error) if is_shortage(&error) && self.give_one_up() => {}
                other => return other,
            }
            // The kernel wants a descriptor before it looks whether anybody is there.
            if let Some(accepted) = listener.accept().now_or_never() {
                return accepted;
            }
            self.fill();
        }
    }
}

fn is_shortage(error: &std::io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Only our own file: a successor may have put its own there.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the process at the other end runs as our user, as root or as a member of the group.
fn may_enter(stream: &UnixStream, us: u32, group: Option<&Group>) -> bool {
    match stream.peer_cred() {
        Ok(them) if them.uid() == us || them.uid() == 0 => true,
        Ok(them) if group.is_some_and(|group| group.has(them.uid(), them.gid())) => true,
        Ok(them) => {
            tracing::warn!(uid = them.uid(), pid = them.pid(), "another user was refused at the API");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "a connection to the API without credentials was refused");
            false
        }
    }
}

async fn serve_one(stream: UnixStream, router: Router) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .half_close(false);
    let service = TowerToHyperService::new(router);
    if let Err(error) = http.serve_connection(TokioIo::new(Stall::new(stream, STALL_TIME)), service).await {
        tracing::debug!(%error, "an API connection ended early");
    }
}

fn turned_away() -> Router {
    Router::new().fallback(async || {
        let problem = Problem {
            error: Code::Failed.word().into(),
            message: "the daemon runs as another user and refuses yours".into(),
            refusal: None,
            next: Some("run the command as the daemon's user or as root".into()),
        };
        stamp((StatusCode::FORBIDDEN, axum::Json(problem)).into_response())
    })
}

/// Adds the version header that clients check.
pub fn stamp(mut response: axum::response::Response) -> axum::response::Response {
    response.headers_mut().insert(VERSION_HEADER, HeaderValue::from(VERSION));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn fault_a14_a_stale_socket_is_replaced_and_a_live_or_foreign_file_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("peerkeep.sock");
        // Stale: the listener is gone, its file is not.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bind"));
        let first = bind(&path, None).expect("a stale socket is replaced");
        let mode = fs::metadata(&path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);

        let second = bind(&path, None).expect_err("somebody answers there");
        assert_eq!(second.code, Code::Running);
        drop(first);
        assert!(!path.exists(), "its file goes with it");

        fs::write(&path, b"precious").expect("write");
        let third = bind(&path, None).expect_err("not a socket");
        assert!(third.message.contains("not a socket"), "{third}");
        assert_eq!(fs::read(&path).expect("read"), b"precious");
    }

    #[tokio::test]
    async fn a_path_too_long_is_explained() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x".repeat(120)).join("peerkeep.sock");
        let failure = bind(&path, None).expect_err("too long");
        assert!(failure.next.is_some_and(|next| next.contains("--data")));
    }
}
