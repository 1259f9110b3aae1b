//! The client's side of the API: HTTP over the unix socket. It checks whose socket it is and which version answers,
//! and turns every way this can fail into a sentence and an exit code. It starts no daemon.

use crate::api::{Problem, VERSION, VERSION_HEADER};
use crate::exit::{Code, Failure};
use crate::place::Place;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// How long an answer may take that does not wait for a peer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Largest answer in bytes: a hundred thousand peers fit.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// Longest line of the event stream in bytes.
const MAX_EVENT_BYTES: usize = 256 * 1024;

/// A connection to the daemon of one data folder.
#[derive(Debug)]
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    socket: PathBuf,
}

impl Client {
    /// Connects to the daemon that serves this place.
    ///
    /// # Errors
    /// `NotRunning` when nobody answers; `Failed` when the socket is somebody else's.
    pub async fn open(place: &Place) -> Result<Client, Failure> {
        Client::open_socket(&place.socket(), &place.option()).await
    }

    /// The same by the socket's path; `option` is what `peerkeep run` needs to serve there.
    pub async fn open_socket(socket: &Path, option: &str) -> Result<Client, Failure> {
        let owner = check_owner(socket, option)?;
        let stream =
            UnixStream::connect(socket).await.map_err(|error| not_reached(socket, option, &error))?;
        let server =
            stream.peer_cred().map_err(|error| Failure::failed(format!("{}: {error}", socket.display())))?;
        if server.uid() != owner && server.uid() != 0 {
            return Err(fake(socket, server.uid()));
        }
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::failed(format!("{}: {error}", socket.display())))?;
        tokio::spawn(connection);
        Ok(Client { sender, socket: socket.to_owned() })
    }

    /// Asks for something.
    ///
    /// # Errors
    /// What the daemon says, or that it said nothing within 10 s.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, Bytes::new(), ANSWER_TIME).await
    }

    /// Tells it to do something that is over at once.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.post_within(path, body, ANSWER_TIME).await
    }

    /// Tells it to do something that may take `time`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post_within<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
        time: Duration,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::failed(error.to_string()))?;
        self.ask(Method::POST, path, body.into(), time).await
    }

    /// Follows the event stream, from now on or from after the event with the id `last`; this connection carries
    /// nothing else from now on.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn events(mut self, last: Option<&str>) -> Result<Feed, Failure> {
        let asked = self.send_with(Method::GET, "/v1/events", Bytes::new(), last);
        let response = within(ANSWER_TIME, asked).await?;
        let response = self.checked(response).await?;
        let last = last.map(str::to_owned);
        Ok(Feed { body: response.into_body(), rest: Vec::new(), last, _client: self })
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        time: Duration,
    ) -> Result<T, Failure> {
        let bytes = within(time, async {
            let response = self.send(method, path, body).await?;
            let response = self.checked(response).await?;
            self.body(response).await
        })
        .await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::failed(format!("the daemon's answer to {path} cannot be read: {error}"))
        })
    }

    async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, Failure> {
        self.send_with(method, path, body, None).await
    }

    async fn send_with(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        last: Option<&str>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::builder().method(method).uri(path).header("host", "peerkeep");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| Failure::failed(error.to_string()))?;
        let gone = |error: hyper::Error| {
            Failure::new(
                Code::NotRunning,
                format!("the daemon at {} went away: {error}", self.socket.display()),
            )
            .next("its log says why; start it again with `peerkeep run`")
        };
        self.sender.ready().await.map_err(gone)?;
        self.sender.send_request(request).await.map_err(gone)
    }

    /// The response, if it is from a daemon of our version and a success.
    async fn checked(&self, response: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
        let version =
            response.headers().get(VERSION_HEADER).map(|value| value.to_str().unwrap_or("?").to_owned());
        match version {
            None => {
                return Err(Failure::failed(format!(
                    "whoever answers on {} is no Peerkeep daemon",
                    self.socket.display()
                ))
                .next("stop that program, or use another --data DIR"));
            }
            Some(version) if version != VERSION.to_string() => {
                return Err(Failure::failed(format!(
                    "the daemon speaks API version {version}, this program {VERSION}"
                ))
                .next("restart the daemon after an upgrade, or use the program of the same version"));
            }
            Some(_) => {}
        }
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = self.body(response).await?;
        Err(match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => problem.into(),
            Err(_) => Failure::failed(format!("the daemon answered {status}")),
        })
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Bytes, Failure> {
        match Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(Failure::failed(format!("the daemon's answer broke off: {error}"))),
        }
    }
}

/// The event stream.
#[derive(Debug)]
pub struct Feed {
    body: Incoming,
    rest: Vec<u8>,
    last: Option<String>,
    _client: Client,
}

impl Feed {
    /// The id of the latest event; what was asked for, before the first.
    pub fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// The next event's JSON, or `None` when the daemon has stopped.
    ///
    /// # Errors
    /// The stream broke or makes no sense.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        loop {
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                if let Some(id) = line.strip_prefix(b"id:") {
                    self.last = Some(String::from_utf8_lossy(id).trim().to_owned());
                }
                // Comments keep the stream alive; event names repeat what the object says.
                if let Some(data) = line.strip_prefix(b"data:") {
                    return serde_json::from_slice(data)
                        .map(Some)
                        .map_err(|error| Failure::failed(format!("an event cannot be read: {error}")));
                }
            }
            if self.rest.len() > MAX_EVENT_BYTES {
                return Err(Failure::failed("the daemon sent an event without end"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.rest.extend_from_slice(data);
                    }
                }
                Some(Err(_)) => return Ok(None),
            }
        }
    }
}

/// A path segment that may contain anything.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

async fn within<T>(time: Duration, asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(time, asked).await.unwrap_or_else(|_| {
        Err(Failure::new(
            Code::Timeout,
            format!("the daemon did not answer within {}", crate::out::span(time)),
        )
        .next("its log may say why; `peerkeep status` shows whether it answers at all"))
    })
}

/// Whose socket it is; one that is neither ours nor root's could be a trap (fault A14).
fn check_owner(socket: &Path, option: &str) -> Result<u32, Failure> {
    let found = std::fs::symlink_metadata(socket).map_err(|error| not_reached(socket, option, &error))?;
    if !found.file_type().is_socket() {
        return Err(Failure::failed(format!("{} is not a socket", socket.display())).next("move it away"));
    }
    let us = rustix::process::geteuid().as_raw();
    if us != 0 && found.uid() != us && found.uid() != 0 {
        return Err(fake(socket, found.uid()));
    }
    Ok(found.uid())
}

fn fake(socket: &Path, uid: u32) -> Failure {
    Failure::failed(format!("{} belongs to user {uid}, not to you", socket.display()))
        .next("run the command as that user, or name your own data folder: --data DIR")
}

fn not_reached(socket: &Path, option: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            let what = if error.kind() == io::ErrorKind::NotFound {
                "no daemon is running"
            } else {
                "the daemon is gone"
            };
            Failure::new(Code::NotRunning, format!("{what} ({})", socket.display()))
                .next(format!("start it with `peerkeep run{option}`"))
        }
        io::ErrorKind::PermissionDenied => Failure::failed(format!("you may not use {}", socket.display()))
            .next("run the command as the daemon's user or as root"),
        _ => Failure::new(Code::NotRunning, format!("{}: {error}", socket.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// Answers every connection with these bytes.
    fn fake_daemon(socket: &Path, answer: &'static str) {
        let listener = std::os::unix::net::UnixListener::bind(socket).expect("bind");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
    }

    async fn status(answer: &'static str) -> Failure {
        let dir = tempfile::tempdir().expect("a folder");
        let socket = dir.path().join("s");
        fake_daemon(&socket, answer);
        let mut client = Client::open_socket(&socket, "").await.expect("it listens");
        client.get::<serde_json::Value>("/v1/status").await.expect_err("not one of ours")
    }

    #[tokio::test]
    async fn fault_a14_a_fake_or_other_daemon_is_recognised() {
        let other = status("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
        assert!(other.message.contains("no Peerkeep daemon"), "{other}");
        let newer = status("HTTP/1.1 200 OK\r\npeerkeep-api: 99\r\ncontent-length: 2\r\n\r\n{}").await;
        assert!(newer.message.contains("version 99"), "{newer}");
        let noise = status("SSH-2.0-dropbear\r\n").await;
        assert!(noise.message.contains("went away"), "{noise}");
    }

    #[tokio::test]
    async fn fault_a14_a_stale_or_missing_socket_means_not_running() {
        let dir = tempfile::tempdir().expect("a folder");
        let socket = dir.path().join("s");
        let missing = Client::open_socket(&socket, " --data X").await.expect_err("nothing there");
        assert_eq!(missing.code, Code::NotRunning);
        assert!(missing.next.expect("advice").contains("peerkeep run --data X"));
        drop(std::os::unix::net::UnixListener::bind(&socket).expect("bind"));
        let stale = Client::open_socket(&socket, "").await.expect_err("nobody there");
        assert_eq!(stale.code, Code::NotRunning);
    }

    #[test]
    fn path_segments_are_encoded() {
        assert_eq!(segment("/ip4/1.2.3.4"), "%2Fip4%2F1.2.3.4");
    }
}
