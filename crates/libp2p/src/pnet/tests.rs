//! Key files and streams of a private network: with ourselves, with `libp2p-pnet`, and with strangers.

use super::*;
use futures::future::join;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p_pnet::{PnetConfig, PreSharedKey};
use proptest::prelude::*;
use std::time::Duration;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

const HEX: &str = "6189c5cf0b87fb800c1a9feeda73c6ab5e998db48fb9e6a978575c770ceef683";

fn key() -> NetworkKey {
    NetworkKey::parse(file("/base16/", HEX.as_bytes()).as_slice()).expect("a key")
}

fn file(encoding: &str, rest: &[u8]) -> Vec<u8> {
    [FILE.as_bytes(), b"\n", encoding.as_bytes(), b"\n", rest].concat()
}

fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time") })
}

fn pair(buffer_bytes: usize) -> (Compat<tokio::io::DuplexStream>, Compat<tokio::io::DuplexStream>) {
    let (one, other) = tokio::io::duplex(buffer_bytes);
    (one.compat(), other.compat())
}

#[test]
fn a_key_is_read_however_it_is_written() {
    let bytes = key().0;
    let base64 = BASE64.encode(&bytes[..]);
    let upper = HEX.to_uppercase();
    for (encoding, text) in [
        ("/base16/", HEX.as_bytes()),
        ("/base16/", format!("{HEX}\n").as_bytes()),
        ("/base16/", upper.as_bytes()),
        ("/base64/", base64.as_bytes()),
        ("/base64/", format!("{base64}\r\n").as_bytes()),
        ("/bin/", &bytes[..]),
    ] {
        let read = NetworkKey::parse(&file(encoding, text));
        assert_eq!(read.expect("a key").0, bytes, "{encoding} {text:?}");
    }
    let windows = format!("{FILE}\r\n/base16/\r\n{HEX}\r\n");
    assert_eq!(NetworkKey::parse(windows.as_bytes()).expect("a key").0, bytes);
}

#[test]
fn a_file_that_is_no_key_is_refused_with_a_reason() {
    let refused = |bytes: &[u8]| NetworkKey::parse(bytes).err();
    assert_eq!(refused(b""), Some(KeyFileError::Kind));
    assert_eq!(refused(FILE.as_bytes()), Some(KeyFileError::Kind));
    assert_eq!(refused(b"/key/swarm/psk/2.0.0/\n/base16/\n00"), Some(KeyFileError::Kind));
    assert_eq!(refused(format!("{FILE}\n/base16/").as_bytes()), Some(KeyFileError::Encoding));
    assert_eq!(refused(&file("/base32/", HEX.as_bytes())), Some(KeyFileError::Encoding));
    assert_eq!(refused(&file("/base16/", &[b'0'; 63])), Some(KeyFileError::Spelling));
    assert_eq!(refused(&file("/base16/", &[b'g'; 64])), Some(KeyFileError::Spelling));
    assert_eq!(refused(&file("/base16/", &[b'0'; 62])), Some(KeyFileError::Length));
    assert_eq!(refused(&file("/base64/", b"AAAA")), Some(KeyFileError::Length));
    assert_eq!(refused(&file("/bin/", &[0; 33])), Some(KeyFileError::Length));
    assert_eq!(refused(&file("/base16/", format!("{HEX}\n{HEX}").as_bytes())), Some(KeyFileError::Spelling));
    assert_eq!(refused(&file("/bin/", &[0; MAX_FILE_BYTES])), Some(KeyFileError::TooLong));
}

/// The fingerprint is the one that others print.
#[test]
fn a_key_is_shown_by_its_fingerprint_alone() {
    let theirs: PreSharedKey = format!("{FILE}\n/base16/\n{HEX}").parse().expect("a key");
    assert_eq!(key().fingerprint(), theirs.fingerprint().to_string());
    assert_eq!(key().fingerprint(), "45fc986bbc9388a11d939df26f730f0c");
    let text = format!("{:?}", key());
    assert!(!text.contains("61") && !text.contains("97"), "{text}");
}

/// With rust-libp2p's own, which waits for the nonce before it says anything, and whichever side speaks first.
#[test]
fn a_private_stream_is_understood_by_rust_libp2p() {
    for we_begin in [true, false] {
        let (one, other) = pair(64);
        let theirs: PreSharedKey = format!("{FILE}\n/base16/\n{HEX}").parse().expect("a key");
        let mut ours = key().secure(one).expect("randomness");
        let ours = async {
            if we_begin {
                ours.write_all(&[1; 5_000]).await.expect("writes");
                ours.flush().await.expect("flushes");
            }
            let mut heard = vec![0; 5_000];
            ours.read_exact(&mut heard).await.expect("reads");
            if !we_begin {
                ours.write_all(&[1; 5_000]).await.expect("writes");
            }
            ours.close().await.expect("closes");
            heard
        };
        let theirs = async {
            let mut theirs = PnetConfig::new(theirs).handshake(other).await.expect("exchanges nonces");
            let mut heard = vec![0; 5_000];
            if we_begin {
                theirs.read_exact(&mut heard).await.expect("reads");
            }
            theirs.write_all(&[2; 5_000]).await.expect("writes");
            theirs.flush().await.expect("flushes");
            if !we_begin {
                theirs.read_exact(&mut heard).await.expect("reads");
            }
            assert_eq!(theirs.read(&mut [0]).await.expect("reads"), 0, "the end");
            heard
        };
        let (ours, theirs) = run(join(ours, theirs));
        assert!(ours == vec![2; 5_000] && theirs == vec![1; 5_000]);
    }
}

/// What is on the wire is no text of ours, differs each time, and means nothing to another network.
#[test]
fn another_network_understands_nothing() {
    run(async {
        let say = b"/multistream/1.0.0\n";
        let mut wires = Vec::new();
        for _ in 0..2 {
            let (one, mut other) = pair(1_024);
            let mut ours = key().secure(one).expect("randomness");
            ours.write_all(say).await.expect("writes");
            ours.close().await.expect("closes");
            let mut wire = Vec::new();
            other.read_to_end(&mut wire).await.expect("reads");
            assert_eq!(wire.len(), NONCE_BYTES + say.len());
            assert!(!wire.windows(4).any(|window| say.windows(4).any(|said| said == window)));
            wires.push(wire);
        }
        assert_ne!(wires[0], wires[1]);
        assert_ne!(wires[0][NONCE_BYTES..], wires[1][NONCE_BYTES..]);
        let stranger = NetworkKey(Zeroizing::new([7; KEY_BYTES]));
        for (key, understood) in [(key(), true), (stranger, false)] {
            let (one, mut other) = pair(1_024);
            other.write_all(&wires[0]).await.expect("room");
            other.close().await.expect("closes");
            let mut heard = Vec::new();
            key.secure(one).expect("randomness").read_to_end(&mut heard).await.expect("reads");
            assert_eq!((heard.len(), heard == say), (say.len(), understood));
        }
    });
}

#[test]
fn a_stream_that_ends_in_the_nonce_is_cut_and_an_idle_one_holds_no_buffer() {
    run(async {
        for (sent, ends_well) in [(0, true), (1, false), (NONCE_BYTES - 1, false), (NONCE_BYTES, true)] {
            let (one, mut other) = pair(1_024);
            other.write_all(&vec![9; sent]).await.expect("room");
            other.close().await.expect("closes");
            let read = key().secure(one).expect("randomness").read(&mut [0; 8]).await;
            assert_eq!(read.is_ok_and(|count| count == 0), ends_well, "{sent}");
        }
        let (one, mut other) = pair(1 << 20);
        let mut ours = key().secure(one).expect("randomness");
        ours.write_all(&vec![1; 500_000]).await.expect("writes");
        ours.flush().await.expect("flushes");
        assert_eq!(ours.out.capacity(), 0);
        other.read_exact(&mut vec![0; NONCE_BYTES + 500_000]).await.expect("reads");
    });
}

#[test]
fn what_nobody_reads_is_not_kept_without_end() {
    use futures::FutureExt;
    let (one, _other) = pair(16);
    let mut ours = key().secure(one).expect("randomness");
    let taken = (0..100).map_while(|_| ours.write(&[1; 50_000]).now_or_never()).count();
    assert!(taken < 3 && ours.out.len() <= NONCE_BYTES + MAX_OUT_BYTES, "{taken} writes, {}", ours.out.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn whatever_is_written_is_read(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40_000), 1..6),
        buffer_bytes in 1_usize..40_000,
        reads in 1_usize..80_000,
    ) {
        run(async {
            let (one, other) = pair(buffer_bytes);
            let (mut writer, mut reader) = (key().secure(one).expect("one"), key().secure(other).expect("other"));
            let expected = chunks.concat();
            let write = async {
                for chunk in &chunks {
                    writer.write_all(chunk).await.expect("writes");
                }
                writer.close().await.expect("closes");
            };
            let read = async {
                let (mut all, mut buf) = (Vec::new(), vec![0; reads]);
                loop {
                    match reader.read(&mut buf).await.expect("reads") {
                        0 => break all,
                        count => all.extend_from_slice(&buf[..count]),
                    }
                }
            };
            let ((), all) = join(write, read).await;
            assert!(all == expected, "{} bytes of {}", all.len(), expected.len());
        });
    }
}
