//! What a disk may hold after the power failed, from the calls a process made: all that was synced, and of the rest any
//! part, in pieces of 512 bytes. A name is safe once its folder is synced, content once its file is. Nothing else is assumed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

const SECTOR: usize = 512;
/// Shared memory of SQLite: no part of what is kept.
const SHARED_MEMORY: &str = "-shm";

/// One call that changes a folder or what is promised of it. Names are those within the folder.
#[derive(Debug)]
pub enum Call {
    Create(String),
    /// At the end when no place is given.
    Write {
        name: String,
        at: Option<usize>,
        bytes: Vec<u8>,
    },
    Truncate(String, usize),
    Sync(String),
    SyncFolder,
    Link(String, String),
    Rename(String, String),
    Unlink(String),
    Told(u32),
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Write { name, at, bytes } => {
                write!(f, "write of {} bytes at {at:?} to {name}", bytes.len())
            }
            other => write!(f, "{other:?}"),
        }
    }
}

/// The changes to `folder` among the lines of `strace -f -y -xx`, in the order in which they were done.
pub fn parse(text: &str, folder: &Path) -> Vec<Call> {
    let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((process, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(head) = rest.strip_suffix("<unfinished ...>") {
            begun.insert(process, head);
            continue;
        }
        let whole = match rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            Some((_, tail)) => format!("{}{tail}", begun.remove(process).unwrap_or_default()),
            None => rest.to_owned(),
        };
        calls.extend(call(&whole, folder));
    }
    calls
}

/// One finished line: `name(arguments) = result`. Failed calls change nothing.
fn call(line: &str, folder: &Path) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(") = ")?;
    if result.starts_with('-') {
        return None;
    }
    let arguments: Vec<&str> = arguments.split(", ").collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<usize>().ok());
    let path = |at: usize| within(folder, &String::from_utf8(unhex(arguments.get(at)?)).ok()?);
    let file = || path(0);
    match name {
        "open" if arguments.get(1)?.contains("O_CREAT") => Some(Call::Create(path(0)?)),
        "openat" if arguments.get(2)?.contains("O_CREAT") => Some(Call::Create(path(1)?)),
        "write" if arguments[0].starts_with("1<") => told(&unhex(arguments.get(1)?)),
        "write" => Some(Call::Write { name: file()?, at: None, bytes: unhex(arguments.get(1)?) }),
        "pwrite64" => {
            Some(Call::Write { name: file()?, at: Some(number(3)?), bytes: unhex(arguments.get(1)?) })
        }
        "ftruncate" => Some(Call::Truncate(file()?, number(1)?)),
        "fsync" | "fdatasync" => {
            file().map(|name| if name.is_empty() { Call::SyncFolder } else { Call::Sync(name) })
        }
        "link" => Some(Call::Link(path(0)?, path(1)?)),
        "linkat" => Some(Call::Link(path(1)?, path(3)?)),
        "rename" => Some(Call::Rename(path(0)?, path(1)?)),
        "renameat" | "renameat2" => Some(Call::Rename(path(1)?, path(3)?)),
        "unlink" => Some(Call::Unlink(path(0)?)),
        "unlinkat" => Some(Call::Unlink(path(1)?)),
        _ => None,
    }
}

fn told(bytes: &[u8]) -> Option<Call> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number = text.split("told ").nth(1)?.trim();
    Some(Call::Told(number.parse().ok()?))
}

/// The name below `folder`, empty for itself; `None` for what lies elsewhere and for shared memory.
fn within(folder: &Path, path: &str) -> Option<String> {
    let name = Path::new(path).strip_prefix(folder).ok()?.to_str()?;
    (!name.ends_with(SHARED_MEMORY)).then(|| name.to_owned())
}

/// The bytes of `"\x61\x62"`, or of the path in `7<\x61\x62>`.
fn unhex(text: &str) -> Vec<u8> {
    let digits = text.split("\\x").skip(1);
    digits.filter_map(|pair| u8::from_str_radix(pair.get(..2)?, 16).ok()).collect()
}

#[derive(Default)]
struct File {
    safe: Vec<u8>,
    waiting: Vec<Change>,
    /// Its length when all arrives.
    length: usize,
}

enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

enum Naming {
    Put(String, usize),
    Remove(String),
}

/// A folder whose files are numbered, since names come and go.
#[derive(Default)]
pub struct Disk {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    safe_names: BTreeMap<String, usize>,
    waiting: Vec<Naming>,
}

/// What is found after the failure.
pub struct Image(BTreeMap<String, Vec<u8>>);

impl Image {
    pub fn write(&self, folder: &Path) {
        use std::os::unix::fs::OpenOptionsExt;
        for (name, bytes) in &self.0 {
            let mut options = std::fs::OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600).open(folder.join(name));
            std::io::Write::write_all(&mut file.expect("a new file"), bytes).expect("room");
        }
    }
}

impl Disk {
    pub fn apply(&mut self, call: &Call) {
        match call {
            Call::Create(name) => {
                if !self.names.contains_key(name) {
                    self.files.push(File::default());
                    self.put(name, self.files.len() - 1);
                }
            }
            Call::Write { name, at, bytes } => self.change(name, |file| {
                let at = at.unwrap_or(file.length);
                file.length = file.length.max(at + bytes.len());
                file.waiting.push(Change::Write(at, bytes.clone()));
            }),
            Call::Truncate(name, length) => self.change(name, |file| {
                file.length = *length;
                file.waiting.push(Change::Length(*length));
            }),
            Call::Sync(name) => self.change(name, |file| {
                file.safe = file.after(|| true);
                file.waiting.clear();
            }),
            Call::SyncFolder => {
                self.safe_names = self.names.clone();
                self.waiting.clear();
            }
            Call::Link(from, to) => self.put(to, self.names[from]),
            Call::Rename(from, to) => {
                self.put(to, self.names[from]);
                self.remove(from);
            }
            Call::Unlink(name) => self.remove(name),
            Call::Told(_) => {}
        }
    }

    fn put(&mut self, name: &str, file: usize) {
        self.names.insert(name.to_owned(), file);
        self.waiting.push(Naming::Put(name.to_owned(), file));
    }

    fn remove(&mut self, name: &str) {
        self.names.remove(name);
        self.waiting.push(Naming::Remove(name.to_owned()));
    }

    /// A file that has no name any more is nobody's business.
    fn change(&mut self, name: &str, change: impl FnOnce(&mut File)) {
        if let Some(number) = self.names.get(name) {
            change(&mut self.files[*number]);
        }
    }

    /// The system wrote all of it back in time.
    pub fn all(&self) -> Image {
        self.left(|| true)
    }

    /// Nothing arrived but what was synced.
    pub fn none(&self) -> Image {
        self.left(|| false)
    }

    /// Any part of it arrived.
    pub fn some(&self, seed: u64) -> Image {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        self.left(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.is_multiple_of(2)
        })
    }

    fn left(&self, mut arrives: impl FnMut() -> bool) -> Image {
        let mut names = self.safe_names.clone();
        for naming in self.waiting.iter().filter(|_| arrives()) {
            match naming {
                Naming::Put(name, file) => names.insert(name.clone(), *file),
                Naming::Remove(name) => names.remove(name),
            };
        }
        let contents = |(name, number): (String, usize)| (name, self.files[number].after(&mut arrives));
        Image(names.into_iter().map(contents).collect())
    }
}

impl File {
    /// Its bytes when of what waits only that part has arrived.
    fn after(&self, mut arrives: impl FnMut() -> bool) -> Vec<u8> {
        let mut bytes = self.safe.clone();
        for change in &self.waiting {
            match change {
                Change::Length(length) if arrives() => bytes.resize(*length, 0),
                Change::Length(_) => {}
                Change::Write(at, data) => {
                    let mut at = *at;
                    let mut rest = data.as_slice();
                    while !rest.is_empty() {
                        let (piece, after) = rest.split_at((SECTOR - at % SECTOR).min(rest.len()));
                        if arrives() {
                            bytes.resize(bytes.len().max(at + piece.len()), 0);
                            bytes[at..at + piece.len()].copy_from_slice(piece);
                        }
                        at += piece.len();
                        rest = after;
                    }
                }
            }
        }
        bytes
    }
}
