//! A DNS server for tests: real sockets on loopback, UDP and TCP on one port, and whatever answer a test wants.
#![allow(dead_code, missing_docs)]

use hickory_resolver::proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

/// What a question is answered with.
#[derive(Clone, Debug)]
pub enum Reply {
    Silence,
    Code(ResponseCode),
    /// These addresses, as far as they are of the version asked for, with a time to live in seconds.
    Ips(Vec<IpAddr>, u32),
    /// These texts, each in pieces, when texts are asked for.
    Texts(Vec<String>),
    /// Another name for it.
    Alias(String),
    /// The header of a good answer, and then this.
    Garbage(Vec<u8>),
    /// Over TCP the same answer again and again, so many times.
    Again(Vec<IpAddr>, usize),
}

type Rule = Box<dyn Fn(&str, RecordType) -> Reply + Send>;

/// Answers until dropped.
pub struct Dns {
    pub at: SocketAddr,
    inner: Arc<Inner>,
    tasks: Vec<JoinHandle<()>>,
}

struct Inner {
    rule: Mutex<Rule>,
    asked: AtomicUsize,
}

impl Dns {
    pub async fn start(rule: impl Fn(&str, RecordType) -> Reply + Send + 'static) -> Dns {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
            let at = udp.local_addr().expect("bound");
            if let Ok(tcp) = TcpListener::bind(at).await {
                break (udp, tcp);
            }
        };
        let at = udp.local_addr().expect("bound");
        let inner = Arc::new(Inner { rule: Mutex::new(Box::new(rule)), asked: AtomicUsize::new(0) });
        let tasks =
            vec![tokio::spawn(over_udp(udp, inner.clone())), tokio::spawn(over_tcp(tcp, inner.clone()))];
        Dns { at, inner, tasks }
    }

    /// Another rule from now on.
    pub fn now(&self, rule: impl Fn(&str, RecordType) -> Reply + Send + 'static) {
        *self.inner.rule.lock().expect("sound") = Box::new(rule);
    }

    /// Questions so far.
    pub fn asked(&self) -> usize {
        self.inner.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Inner {
    /// The question, what to do, and the answer's bytes if there are any.
    fn answer(&self, asked: &[u8]) -> Option<(Reply, Message, Vec<u8>)> {
        let message = Message::from_vec(asked).ok()?;
        let query = message.queries.first()?.clone();
        self.asked.fetch_add(1, Ordering::SeqCst);
        let host = query.name().to_ascii().trim_end_matches('.').to_owned();
        let reply = (self.rule.lock().expect("sound"))(&host, query.query_type());
        let mut answer = Message::response(message.metadata.id, OpCode::Query);
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        match &reply {
            Reply::Silence | Reply::Garbage(_) => {}
            Reply::Code(code) => answer.metadata.response_code = *code,
            Reply::Ips(ips, ttl) => {
                answer.add_answers(ips.iter().filter_map(|ip| record(&query, *ip, *ttl)));
            }
            Reply::Again(ips, _) => {
                answer.add_answers(ips.iter().filter_map(|ip| record(&query, *ip, 60)));
            }
            Reply::Texts(texts) if query.query_type() == RecordType::TXT => {
                answer.add_answers(texts.iter().map(|text| text_record(&query, text)));
            }
            Reply::Texts(_) => {}
            Reply::Alias(to) => {
                let to = CNAME(Name::from_ascii(to).expect("a name"));
                answer.add_answer(Record::from_rdata(query.name().clone(), 60, RData::CNAME(to)));
            }
        }
        let mut bytes = answer.to_vec().expect("it can be written");
        if let Reply::Garbage(rest) = &reply {
            // One answer is promised.
            bytes[7] = 1;
            bytes.extend(rest);
        }
        Some((reply, answer, bytes))
    }
}

fn record(query: &Query, ip: IpAddr, ttl: u32) -> Option<Record> {
    let data = match (ip, query.query_type()) {
        (IpAddr::V4(ip), RecordType::A) => RData::A(A(ip)),
        (IpAddr::V6(ip), RecordType::AAAA) => RData::AAAA(AAAA(ip)),
        _ => return None,
    };
    Some(Record::from_rdata(query.name().clone(), ttl, data))
}

fn text_record(query: &Query, text: &str) -> Record {
    let text = RData::TXT(TXT::from_bytes(text.as_bytes().chunks(50).collect()));
    Record::from_rdata(query.name().clone(), 60, text)
}

async fn over_udp(socket: UdpSocket, inner: Arc<Inner>) {
    let mut buffer = vec![0; 4_096];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let Some((reply, answer, bytes)) = inner.answer(&buffer[..length]) else { continue };
        if matches!(reply, Reply::Silence) {
            continue;
        }
        let bytes = if bytes.len() <= 1_200 { bytes } else { answer.truncate().to_vec().expect("it can") };
        let _ = socket.send_to(&bytes, from).await;
    }
}

async fn over_tcp(listener: TcpListener, inner: Arc<Inner>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(one_by_one(stream, inner.clone()));
    }
}

async fn one_by_one(mut stream: TcpStream, inner: Arc<Inner>) {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; length.into()];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        let Some((reply, _, bytes)) = inner.answer(&question) else { return };
        let times = match reply {
            Reply::Silence => 0,
            Reply::Again(_, times) => times,
            _ => 1,
        };
        for _ in 0..times {
            let length = u16::try_from(bytes.len()).expect("it fits").to_be_bytes();
            if stream.write_all(&[&length[..], &bytes].concat()).await.is_err() {
                return;
            }
        }
    }
}
