//! `peerkeep identity`.

use crate::cli::Shared;
use crate::exit::{Code, Ended, Failure};
use crate::out;
use clap::Subcommand;
use peerkeep::{Identity, IdentityError};
use serde_json::json;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Longest text that can be an exported identity, in bytes.
const MAX_TEXT_BYTES: u64 = 4_096;

/// Show, export or import this node's identity.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  peerkeep identity show
  peerkeep identity export backup.key       (a new file that only you can read)
  peerkeep identity import backup.key       (only where there is no identity yet)
  ssh other peerkeep identity export - | peerkeep identity import -

The identity is made at the first start. Whoever has the exported file can be this node.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the id and where its key is kept. The key itself is not shown.
    Show,
    /// Write the key to a new file that only you can read, or to a pipe.
    Export {
        /// A file that does not exist yet, or `-` for a pipe.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Take a key that was exported. An identity that is there is never replaced.
    Import {
        /// The exported file, or `-` for standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Does it.
pub fn run(shared: &Shared, args: Args) -> Ended {
    let path = super::place(shared)?.identity();
    match args.action {
        Action::Show => {
            let identity = Identity::load(&path).map_err(explain)?;
            show(shared, &identity, &path, "");
            Ok(())
        }
        Action::Export { file } => export(shared, &path, &file),
        Action::Import { file } => import(shared, &path, &file),
    }
}

fn export(shared: &Shared, path: &Path, file: &Path) -> Ended {
    let identity = Identity::load(path).map_err(explain)?;
    let text = identity.export();
    if file == Path::new("-") {
        if io::IsTerminal::is_terminal(&io::stdout()) {
            return Err(
                Failure::failed("a key is not shown on a terminal").next("name a file, or use a pipe")
            );
        }
        // Not through `out`: this is the one text that may be read by nobody but the pipe's other end.
        return io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::failed(error.to_string()));
    }
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(file);
    let written = made.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::failed(format!("{} exists already", file.display()))
            .next("name a file that does not exist"),
        _ => Failure::failed(format!("{}: {error}", file.display())),
    })?;
    show(shared, &identity, file, "exported; whoever has this file can be this node");
    Ok(())
}

fn import(shared: &Shared, path: &Path, file: &Path) -> Ended {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        io::stdin().take(MAX_TEXT_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(MAX_TEXT_BYTES).read_to_string(&mut text))
    };
    read.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Code::NotFound, format!("there is no file {}", file.display()))
        }
        _ => Failure::failed(format!("{}: {error}", file.display())),
    })?;
    let identity = Identity::import(&text).map_err(explain)?;
    if let Some(folder) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))?;
    }
    identity.create(path).map_err(explain)?;
    show(shared, &identity, path, "imported");
    Ok(())
}

fn show(shared: &Shared, identity: &Identity, file: &Path, note: &str) {
    let value = json!({ "id": identity.id(), "file": file.display().to_string() });
    out::either(shared.json, &value, || {
        let mut rows = vec![("id", identity.id().to_string()), ("key file", file.display().to_string())];
        if !note.is_empty() {
            rows.push(("", note.into()));
        }
        out::facts(&rows)
    });
}

fn explain(error: IdentityError) -> Failure {
    let failure = Failure::new(Code::Identity, error.to_string());
    match error {
        IdentityError::Missing { .. } => failure
            .next("`peerkeep run` makes one at its first start; `peerkeep identity import FILE` takes one"),
        IdentityError::Exists { .. } => {
            failure.next("move the old one away if you mean it, or use another --data DIR")
        }
        _ => failure,
    }
}
