//! The `peerkeep` binary, and nothing else: all of it is in the library beside it.

fn main() -> std::process::ExitCode {
    peerkeep_daemon::main()
}
