//! The plaintext stack.

use arrayvec::ArrayVec;
use peerkeep_core::{
    Addrs, Close, End, Fault, FaultKind, Greeting, PeerKey, Refusal, StackId, Step, Violation,
};
use peerkeep_net::{
    Io, Link, Mail, MeetError, Meeting, Met, Meter, Note, Role, Stack, Terms, Verdict, io_fault,
};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

const HELLO: u8 = 1;
const ANSWER: u8 = 2;
const CONFIRM: u8 = 3;
const REFUSAL: u8 = 4;
const PING: u8 = 5;
const PONG: u8 = 6;
const DATA: u8 = 7;
const BYE: u8 = 8;

pub struct Plain {
    pub key: PeerKey,
}

pub struct PlainMeeting {
    stream: TcpStream,
    role: Role,
    key: PeerKey,
}

pub struct PlainLink {
    stream: TcpStream,
    handle: Handle,
}

/// What a test can make a link do.
#[derive(Clone, Default)]
pub struct Handle(Arc<Wishes>);

#[derive(Default)]
struct Wishes {
    list: Mutex<Vec<Wish>>,
    ready: Notify,
}

#[derive(Debug, Clone, Copy)]
pub enum Wish {
    Send(u8),
    Panic,
    Violate,
    IgnoreClose,
    FailClose,
}

impl Handle {
    pub fn wish(&self, wish: Wish) {
        self.0.list.lock().expect("no panic inside").push(wish);
        self.0.ready.notify_one();
    }
    pub fn send(&self, byte: u8) {
        self.wish(Wish::Send(byte));
    }
    pub fn panic(&self) {
        self.wish(Wish::Panic);
    }
    pub fn violate(&self) {
        self.wish(Wish::Violate);
    }
    pub fn ignore_close(&self) {
        self.wish(Wish::IgnoreClose);
    }
    pub fn fail_close(&self) {
        self.wish(Wish::FailClose);
    }
}

type Frame = ArrayVec<u8, 255>;

async fn write(to: &mut (impl AsyncWriteExt + Unpin), tag: u8, body: &[u8]) -> io::Result<()> {
    let mut frame = vec![u8::try_from(body.len() + 1).expect("short"), tag];
    frame.extend_from_slice(body);
    to.write_all(&frame).await
}

async fn read(from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<(u8, Frame)> {
    let length = usize::from(from.read_u8().await?);
    let mut body = [0; 255];
    from.read_exact(&mut body[..length]).await?;
    let tag = *body[..length].first().ok_or(io::ErrorKind::InvalidData)?;
    Ok((tag, body[1..length].iter().copied().collect()))
}

fn emit(key: PeerKey, greeting: Greeting) -> Vec<u8> {
    let mut body = key.bytes.to_vec();
    body.extend(greeting.epoch.to_be_bytes());
    body.extend(greeting.dial.to_be_bytes());
    body.extend(greeting.accepted.0.to_be_bytes());
    body.extend(greeting.accepted.1.to_be_bytes());
    body.push(u8::from(greeting.replaces));
    body
}

fn parse(body: &[u8]) -> Result<(PeerKey, Greeting), MeetError> {
    let malformed = MeetError::Violation(Violation::Malformed);
    let Ok(body) = <&[u8; 57]>::try_from(body) else { return Err(malformed) };
    let long = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| body[at + i]));
    let short = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| body[at + i]));
    let greeting = Greeting {
        epoch: long(32),
        dial: short(40),
        accepted: (long(44), short(52)),
        replaces: body[56] == 1,
    };
    Ok((PeerKey::ed25519(std::array::from_fn(|i| body[i])), greeting))
}

fn hello_fault(error: io::Error) -> MeetError {
    MeetError::Fault(io_fault(Step::Hello, &error))
}

impl Stack for Plain {
    type Meeting = PlainMeeting;
    const ID: StackId = StackId::Mesh;

    async fn meet(&self, io: Io, terms: Terms) -> Result<(Met, PlainMeeting), MeetError> {
        let Io::Tcp(mut stream) = io else {
            return Err(Fault::new(Step::Connect, FaultKind::Protocol).into());
        };
        if terms.role == Role::Dialler {
            write(&mut stream, HELLO, &emit(self.key, terms.greeting)).await.map_err(hello_fault)?;
        }
        let (tag, body) = read(&mut stream).await.map_err(hello_fault)?;
        let (key, greeting) = match (terms.role, tag) {
            (Role::Dialler, ANSWER) | (Role::Acceptor, HELLO) => parse(&body)?,
            (Role::Dialler, REFUSAL) => {
                return Err(MeetError::Declined {
                    code: 0,
                    key: None,
                    reason: String::from_utf8_lossy(&body).into_owned(),
                    retry_after: Duration::ZERO,
                    newer_epoch: 0,
                });
            }
            _ => return Err(MeetError::Violation(Violation::OutOfOrder)),
        };
        if terms.expect.is_some_and(|expected| expected != key) {
            return Err(Fault::new(Step::Secure, FaultKind::Identity).into());
        }
        let met = Met { key, greeting: Some(greeting), listen: Addrs::new() };
        Ok((met, PlainMeeting { stream, role: terms.role, key: self.key }))
    }
}

impl Meeting for PlainMeeting {
    type Link = PlainLink;

    async fn settle(mut self, verdict: Verdict) -> Result<PlainLink, MeetError> {
        match verdict {
            Verdict::Turn { why, .. } => {
                let reason = match why {
                    Refusal::Banned { .. } => "banned",
                    Refusal::Full(_) => "full",
                    _ => "no",
                };
                write(&mut self.stream, REFUSAL, reason.as_bytes()).await.map_err(hello_fault)?;
                self.stream.shutdown().await.map_err(hello_fault)?;
                return Err(Fault::new(Step::Hello, FaultKind::Declined).into());
            }
            Verdict::Admit { greeting } => match self.role {
                Role::Dialler => write(&mut self.stream, CONFIRM, &[]).await.map_err(hello_fault)?,
                Role::Acceptor => {
                    write(&mut self.stream, ANSWER, &emit(self.key, greeting)).await.map_err(hello_fault)?;
                    let (tag, _) = read(&mut self.stream).await.map_err(hello_fault)?;
                    if tag != CONFIRM {
                        return Err(MeetError::Violation(Violation::OutOfOrder));
                    }
                }
            },
        }
        Ok(PlainLink { stream: self.stream, handle: Handle::default() })
    }
}

impl Link for PlainLink {
    type Handle = Handle;

    fn handle(&self) -> Handle {
        self.handle.clone()
    }

    async fn run(self, mut mail: Mail, meter: Meter) -> End {
        let PlainLink { stream, handle } = self;
        let (reader, mut writer) = stream.into_split();
        let (told, mut frames) = tokio::sync::mpsc::channel(4);
        // Reading in a task of its own keeps half-read frames whole; the link's end drops the receiver and ends it.
        let reading = tokio::task::spawn_local(read_all(reader, meter.clone(), told));
        let end = talk(&mut writer, &mut mail, &meter, &handle, &mut frames).await;
        reading.abort();
        end
    }
}

async fn talk(
    writer: &mut OwnedWriteHalf,
    mail: &mut Mail,
    meter: &Meter,
    handle: &Handle,
    frames: &mut tokio::sync::mpsc::Receiver<io::Result<(u8, Frame)>>,
) -> End {
    let (mut ignores_close, mut fails_close) = (false, false);
    loop {
        let done = tokio::select! {
            note = mail.next() => match note {
                Note::Probe => write(writer, PING, &[]).await,
                Note::Retune(_) => Ok(()),
                Note::Close { .. } if ignores_close => Ok(()),
                Note::Close { .. } if fails_close => Err(io::ErrorKind::BrokenPipe.into()),
                Note::Close { why, .. } => {
                    let _ = write(writer, BYE, &[why.code()]).await;
                    return End::Asked;
                }
            },
            frame = frames.recv() => match frame {
                Some(Ok((PING, _))) => write(writer, PONG, &[]).await,
                Some(Ok((DATA, _))) => { meter.used(); Ok(()) }
                Some(Ok((BYE, body))) => {
                    let why = body.first().and_then(|code| Close::from_code(*code));
                    return End::Goodbye(why.unwrap_or(Close::Requested));
                }
                Some(Ok(_)) => Ok(()),
                Some(Err(error)) => Err(error),
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            },
            () = handle.0.ready.notified() => {
                let wishes = std::mem::take(&mut *handle.0.list.lock().expect("no panic inside"));
                let mut done = Ok(());
                for wish in wishes {
                    match wish {
                        Wish::Send(byte) => { meter.used(); done = write(writer, DATA, &[byte]).await; }
                        Wish::Panic => panic!("a test asked for it"),
                        Wish::Violate => meter.violated(Violation::Malformed),
                        Wish::IgnoreClose => ignores_close = true,
                        Wish::FailClose => fails_close = true,
                    }
                }
                done
            }
        };
        if let Err(error) = done {
            return End::Fault(io_fault(Step::Live, &error));
        }
    }
}

async fn read_all(
    mut reader: OwnedReadHalf,
    meter: Meter,
    tell: tokio::sync::mpsc::Sender<io::Result<(u8, Frame)>>,
) {
    loop {
        let frame = read(&mut reader).await;
        if let Ok((_, body)) = &frame {
            meter.received(body.len() + 2);
        }
        let is_end = frame.is_err();
        if tell.send(frame).await.is_err() || is_end {
            return;
        }
    }
}

/// The other side made by hand, for bad manners that no link has.
pub struct PlainPeer {
    pub stream: TcpStream,
}

impl PlainPeer {
    /// Connects as that number, up to the confirm.
    pub async fn connect(to: peerkeep_core::Addr, number: u8) -> PlainPeer {
        let mut stream = TcpStream::connect(to.socket()).await.expect("it listens");
        let greeting = Greeting { epoch: 1, dial: 1, ..Greeting::default() };
        let key = PeerKey::ed25519([number; 32]);
        write(&mut stream, HELLO, &emit(key, greeting)).await.expect("room");
        let (tag, _) = read(&mut stream).await.expect("an answer");
        assert_eq!(tag, ANSWER);
        write(&mut stream, CONFIRM, &[]).await.expect("room");
        PlainPeer { stream }
    }

    /// The beginning of a message whose rest never comes.
    pub async fn half_a_message(&mut self) {
        self.stream.write_all(&[9, DATA, 1, 2, 3]).await.expect("room");
    }

    pub fn message(byte: u8) -> Vec<u8> {
        vec![2, DATA, byte]
    }

    pub fn goodbye(why: Close) -> Vec<u8> {
        vec![2, BYE, why.code()]
    }
}
