//! Daemons on machines that are short of something: descriptors, processor time, somebody who reads the log,
//! randomness; and one that dies badly.
#![allow(missing_docs)]

mod common;

use common::{Daemon, Home, SOON, until};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Resource, Rlimit, Signal, prlimit};
use std::fs;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The descriptors of a process below a number.
fn descriptors(daemon: &Daemon<'_>, below: u64) -> Vec<u64> {
    let folder = format!("/proc/{}/fd", daemon.pid().as_raw_nonzero());
    let names = fs::read_dir(folder).expect("it runs").flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).filter(|fd| *fd < below).collect()
}

/// Fault R1: somebody else in the process has them all. The API has a few of its own, links and store need no new ones.
#[test]
fn fault_r1_without_descriptors_the_api_and_links_go_on_and_all_is_well_when_some_are_free() {
    let homes = [Home::new(201), Home::new(202), Home::new(203), Home::new(204)];
    let [home, b, c, d] = &homes;
    let wide =
        ["limits.per_ip=9999", "limits.per_subnet=9999", "limits.pending=999", "timeouts.handshake=1m"];
    let mut args = vec!["--debuggable"];
    args.extend(wide.iter().flat_map(|setting| ["--set", setting]));
    let (poor, up, later, caller) = (home.start(&args), b.start(&[]), c.start(&[]), d.start(&[]));
    home.ask(&["connect", &up.address]).expect(0);
    let highest = descriptors(&poor, 200).into_iter().max().expect("some");
    let most = highest + 12;
    let limit = Rlimit { current: Some(most), maximum: Some(most) };
    prlimit(Some(poor.pid()), Resource::Nofile, limit).expect("ours to limit");
    let mut crowd = Vec::new();
    until("no descriptor is left", SOON, || {
        crowd.extend(TcpStream::connect((home.ip.as_str(), poor.port())));
        u64::try_from(descriptors(&poor, most).len()).expect("few") == most
    });
    for _ in 0..8 {
        crowd.extend(TcpStream::connect((home.ip.as_str(), poor.port())));
        assert_eq!(home.connected(), 1, "the link lives and the API answers");
    }
    home.ask(&["ban", "192.0.2.7"]).expect(0);
    assert_ne!(home.ask(&["connect", &later.address, "--wait", "2s"]).code, 0, "there is no socket for it");
    home.ask(&["want", &later.address]).expect(0);
    drop(crowd);
    let freed = Instant::now();
    until("somebody gets in", SOON, || d.ask(&["connect", &poor.address, "--wait", "1s"]).code == 0);
    println!("in after {:?}", freed.elapsed());
    assert!(freed.elapsed() < Duration::from_secs(4), "{:?}", freed.elapsed());
    until("the wanted peer is dialled when the pause is over", Duration::from_secs(40), || {
        home.connected() == 3
    });
    assert!(home.log().contains("cannot accept connections for now"), "it is told of");
    poor.stop();
    let again = home.start(&[]);
    assert!(home.ask(&["bans"]).out.contains("192.0.2.7"), "it was stored");
    for daemon in [again, up, later, caller] {
        daemon.stop();
    }
}

/// A pipe that takes nothing more until somebody reads.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let flags = fcntl_getfl(&writer).expect("flags");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("set");
    for size in [4096, 1] {
        while writer.write(&vec![b'\n'; size]).map_err(|error| error.kind()) != Err(ErrorKind::WouldBlock) {}
    }
    fcntl_setfl(&writer, flags).expect("set");
    (reader, writer)
}

/// Fault R7: nobody reads what the daemon says, from before its first word to its end.
#[test]
fn fault_r7_a_daemon_whose_output_nobody_reads_serves_and_stops_as_ever() {
    let (home, other) = (Home::new(205), Home::new(206));
    let peer = other.start(&[]);
    let (unread, stdout) = full_pipe();
    let (mut log, stderr) = full_pipe();
    let mut command = home.run_command();
    command.args(["--listen", "127.0.0.205:0", "--set", "log.level=trace"]).stdout(stdout).stderr(stderr);
    let mut child = Guard(command.spawn().expect("the program runs"));
    drop(command);
    until("it answers", SOON, || home.ask(&["status"]).code == 0);
    home.ask(&["connect", &peer.address]).expect(0);
    let status = home.json(&["status"]);
    let at = status["addresses"][0].as_str().and_then(|address| address.split('/').nth(4)).expect("a port");
    // More lines than may wait.
    let mut arrivals = 0;
    until("thousands came and went", Duration::from_secs(60), || {
        for _ in 0..200 {
            arrivals += u32::from(TcpStream::connect(format!("127.0.0.205:{at}")).is_ok());
        }
        arrivals > 6_000
    });
    assert_eq!(home.connected(), 1, "it serves");
    let (sender, lost) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let (mut text, mut chunk) = (String::new(), [0; 65_536]);
        while let Ok(count @ 1..) = log.read(&mut chunk) {
            text.push_str(&String::from_utf8_lossy(&chunk[..count]));
            if text.contains("lines of the log were lost") {
                let _ = sender.send(());
                break;
            }
        }
        // Nobody reads any more, and the pipe is still open.
        std::thread::sleep(SOON);
    });
    lost.recv_timeout(SOON).expect("what was lost is told when somebody reads");
    let pid = rustix::process::Pid::from_child(&child.0);
    rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
    let began = Instant::now();
    let mut ended = None;
    until("it stops", Duration::from_secs(11), || {
        ended = child.0.try_wait().expect("ours");
        ended.is_some()
    });
    assert!(ended.is_some_and(|status| status.success()), "{ended:?} after {:?}", began.elapsed());
    drop(unread);
    peer.stop();
}

/// A process that ends with the test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Fault R8: a question every half second, answered within the default time or the link is lost.
#[test]
fn fault_r8_a_busy_machine_is_no_reason_to_take_anybody_for_dead() {
    let (home, other) = (Home::new(207), Home::new(208));
    let often = ["--set", "liveness.silence=500ms", "--set", "tls.enabled=true"];
    let (daemon, peer) = (home.start(&often), other.start(&often));
    home.ask(&["connect", &peer.address]).expect(0);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let busy: Vec<Guard> = (0..2 * cores)
        .map(|_| Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn())
        .map(|child| Guard(child.expect("a shell")))
        .collect();
    let (mut heard, mut silent) = (0, 0);
    until("the peer is heard ten times", Duration::from_secs(120), || {
        let shown = home.json(&["peer", &peer.id]);
        let now = shown["last_received_ms_ago"].as_u64().expect("it is connected");
        heard += u32::from(now < silent);
        silent = now;
        heard >= 10
    });
    drop(busy);
    for home in [&home, &other] {
        let status = home.json(&["status"]);
        assert_eq!((&status["totals"]["lost"], &status["counts"]["connected"]), (&0.into(), &1.into()));
    }
    daemon.stop();
    peer.stop();
}

/// Lets the program run with a system call that fails.
const WITHOUT_RANDOMNESS: &str = r#"
import ctypes, os, platform, struct, sys
GETRANDOM = {"x86_64": 318, "aarch64": 278}[platform.machine()]
EIO, ALLOW, ERRNO = 5, 0x7FFF0000, 0x00050000
# Only calls without flags: the tables of the standard library ask with one, keys do not.
steps = [(0x20, 0, 0, 0), (0x15, 0, 3, GETRANDOM), (0x20, 0, 0, 32), (0x15, 0, 1, 0), (0x06, 0, 0, ERRNO | EIO),
         (0x06, 0, 0, ALLOW)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
program = Program(len(steps), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.addressof(program), 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Fault R10.
#[test]
fn fault_r10_without_randomness_no_node_starts_and_no_identity_is_made() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("SKIPPED fault_r10: it needs python3");
        return;
    }
    let home = Home::new(209);
    let start = |more: &[&str]| {
        let plain = home.run_command();
        let mut python = Command::new("python3");
        python.args(["-c", WITHOUT_RANDOMNESS]).arg(plain.get_program()).args(plain.get_args()).args(more);
        python.args(["--listen", "127.0.0.209:0"]).env_clear();
        let output = python.stdin(Stdio::null()).output().expect("python runs");
        common::Said::of(output)
    };
    let said = start(&[]).expect(9);
    assert!(said.out.contains("gave no randomness"), "{said:?}");
    assert!(!home.data().join("identity").exists(), "no identity of poor randomness is left");
    // Nor does one start that has an identity already.
    home.start(&[]).stop();
    let said = start(&[]);
    assert!(said.code == 9 && said.out.contains("gave no randomness"), "{said:?}");
    home.start(&[]).stop();
}

/// Kills a daemon so that the system would keep its memory; whether it did.
fn dies_badly(home: &Home, more: &[&str]) -> bool {
    let mut daemon = home.start(more);
    let limits =
        fs::read_to_string(format!("/proc/{}/limits", daemon.pid().as_raw_nonzero())).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("Linux");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    // Somebody raises it again: the memory stays where it is all the same.
    let _ = prlimit(Some(daemon.pid()), Resource::Core, Rlimit { current: None, maximum: None });
    daemon.signal(Signal::ABORT);
    daemon.wait(SOON).core_dumped()
}

/// Fault K11.
#[test]
fn fault_k11_a_daemon_that_dies_leaves_no_memory_behind_and_starts_again() {
    let home = Home::new(210);
    let mut first = home.start(&[]);
    let id = first.id.clone();
    first.signal(Signal::KILL);
    first.wait(SOON);
    assert!(!dies_badly(&home, &[]), "its memory was kept");
    if !dies_badly(&home, &["--debuggable"]) {
        eprintln!("fault_k11: this system keeps no memory of anybody, so only the settings were looked at");
    }
    let again = home.start(&[]);
    assert_eq!(again.id, id);
    again.stop();
}
