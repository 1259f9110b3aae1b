//! The handshake and the stream: with ourselves, with `libp2p-noise`, and with those who break the rules.

use super::*;
use futures::FutureExt as _;
use futures::future::join;
use libp2p_core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use proptest::prelude::*;
use tokio::io::DuplexStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

const YAMUX: &str = "/yamux/1.0.0";

fn pair(buffer_bytes: usize) -> (Compat<DuplexStream>, Compat<DuplexStream>) {
    let (one, other) = tokio::io::duplex(buffer_bytes);
    (one.compat(), other.compat())
}

fn node(pair: &Keypair, muxers: &[&str]) -> NoiseNode {
    NoiseNode::new(pair, muxers).expect("a node")
}

fn run<F: Future>(future: F) -> F::Output {
    futures::executor::block_on(future)
}

/// Both ends of a finished handshake of two nodes of ours.
async fn secured(buffer_bytes: usize) -> (Secured<Compat<DuplexStream>>, Secured<Compat<DuplexStream>>) {
    let (alice, bob) =
        (node(&Keypair::generate_ed25519(), &[YAMUX]), node(&Keypair::generate_ed25519(), &[YAMUX]));
    let (one, other) = pair(buffer_bytes);
    let (one, other) = join(alice.secure(Side::Initiator, one), bob.secure(Side::Responder, other)).await;
    (one.expect("secures"), other.expect("secures"))
}

#[test]
fn two_nodes_prove_themselves_and_agree_on_a_multiplexer() {
    let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_secp256k1());
    let (alice, bob) = (node(&a, &["/new", YAMUX]), node(&b, &[YAMUX, "/old"]));
    let (one, other) = pair(64);
    let (one, other) = run(join(alice.secure(Side::Initiator, one), bob.secure(Side::Responder, other)));
    let (one, other) = (one.expect("secures"), other.expect("secures"));
    assert_eq!((&one.peer.public, &other.peer.public), (&b.public(), &a.public()));
    assert_eq!((one.muxer.as_deref(), other.muxer.as_deref()), (Some(YAMUX), Some(YAMUX)));
}

#[test]
fn without_a_common_multiplexer_none_is_agreed() {
    let (alice, bob) =
        (node(&Keypair::generate_ed25519(), &[YAMUX]), node(&Keypair::generate_ed25519(), &[]));
    let (one, other) = pair(64);
    let (one, other) = run(join(alice.secure(Side::Initiator, one), bob.secure(Side::Responder, other)));
    assert_eq!((one.expect("secures").muxer, other.expect("secures").muxer), (None, None));
}

/// S0.63: Noise XX with rust-libp2p's own implementation, in both roles.
#[test]
fn s0_63_noise_with_rust_libp2p_in_both_roles() {
    let theirs = Keypair::generate_ed25519();
    for side in [Side::Initiator, Side::Responder] {
        let config = libp2p_noise::Config::new(&theirs).expect("a config");
        let ours = node(&Keypair::generate_ed25519(), &[YAMUX]);
        let (one, other) = pair(1_024);
        let (one, other) = run(async {
            let ours = ours.secure(side, one);
            match side {
                Side::Initiator => join(ours, config.upgrade_inbound(other, NOISE)).await,
                Side::Responder => join(ours, config.upgrade_outbound(other, NOISE)).await,
            }
        });
        let (mut one, (_, mut other)) = (one.expect("secures"), other.expect("they secure"));
        assert_eq!((one.peer.public, one.muxer), (theirs.public(), None));
        run(async {
            let mut buf = [0; 5];
            one.stream.write_all(b"hello").await.expect("writes");
            let (flushed, read) = join(one.stream.flush(), other.read_exact(&mut buf)).await;
            flushed.and(read).expect("is heard");
            assert_eq!(&buf, b"hello");
            other.write_all(b"again").await.expect("writes");
            let (flushed, read) = join(other.flush(), one.stream.read_exact(&mut buf)).await;
            flushed.and(read).expect("is heard");
            assert_eq!(&buf, b"again");
        });
    }
}

/// Speaks to a responder of ours by hand, and returns what it says to that.
fn abuse(bytes: &[u8]) -> NoiseError {
    let (one, mut other) = pair(256 * 1024);
    let ours = node(&Keypair::generate_ed25519(), &[YAMUX]);
    let result = run(async {
        other.write_all(bytes).await.expect("room");
        other.close().await.expect("closes");
        ours.secure(Side::Responder, one).await
    });
    result.err().expect("no handshake")
}

#[test]
fn fault_h5_messages_that_are_too_long_empty_cut_or_of_another_pattern_are_refused() {
    let framed = |message: &[u8]| {
        let length = u16::try_from(message.len()).expect("short");
        [&length.to_be_bytes()[..], message].concat()
    };
    assert!(matches!(abuse(&[0xff, 0xff]), NoiseError::Broken(_)), "too long before it is read");
    assert!(matches!(abuse(&framed(&[])), NoiseError::Crypto(_)), "empty");
    assert!(matches!(abuse(&framed(&[1; 31])), NoiseError::Crypto(_)), "no whole key");
    assert!(matches!(abuse(&framed(&[1; 32])[..20]), NoiseError::Io(_)), "cut");
    assert!(matches!(abuse(&framed(&[1; 80])), NoiseError::Broken(_)), "a payload where XX has none");
    let again = [framed(&[9; 32]), framed(&[9; 32])].concat();
    assert!(matches!(abuse(&again), NoiseError::Crypto(_)), "the first message once more");
    // A key of low order makes a shared secret that everybody knows: what follows still has to be proven.
    assert!(matches!(abuse(&[framed(&[0; 32]), framed(&[0; 100])].concat()), NoiseError::Crypto(_)));
}

/// Keys that make a secret everybody knows, in each of their spellings, get no answer (fault H5).
#[test]
fn fault_h5_keys_of_low_order_are_refused_before_we_say_anything() {
    let answer = |key: [u8; 32]| crate::fuzzing::noise(&[&[0, 32][..], &key].concat(), 99, false);
    assert!(answer([9; 32]) > 0);
    let mut near = [[0xff; 32]; 3];
    for (key, low) in near.iter_mut().zip([0xec, 0xed, 0xee]) {
        (key[0], key[31]) = (low, 0x7f);
    }
    let mut one = [0; 32];
    one[0] = 1;
    let order_8 = [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ]
    .map(|hex| {
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hex");
        <[u8; 32]>::try_from(bytes).expect("a key")
    });
    for key in [[0; 32], one].into_iter().chain(near).chain(order_8) {
        assert_eq!(answer(key), 0, "{key:?}");
    }
}

/// Who holds the static key and has no identity that signed it is met by nobody, in either role.
#[test]
fn fault_h6_a_handshake_with_a_forged_identity_ends() {
    let ours = node(&Keypair::generate_ed25519(), &[YAMUX]);
    let victim = Keypair::generate_ed25519();
    let made = builder().and_then(|builder| Ok(builder.generate_keypair()?)).expect("a key");
    // Their true payload, for another static key than the one it comes with.
    let payload = payload::emit(&victim, &[3; 32], &[YAMUX]).expect("signs");
    let private = Zeroizing::new(made.private);
    let forger = NoiseNode(Arc::new(Inner { private, payload, muxers: vec![YAMUX.to_owned()] }));
    for (side, other_side) in [(Side::Initiator, Side::Responder), (Side::Responder, Side::Initiator)] {
        let (one, other) = pair(8_192);
        let (one, _) = run(join(ours.secure(side, one), forger.secure(other_side, other)));
        assert!(matches!(one, Err(NoiseError::Signature)), "{side:?}");
    }
}

/// The initiator says nothing more once it knows: its own identity would be in its last message.
#[test]
fn another_identity_than_expected_ends_it_before_the_initiator_shows_its_own() {
    let theirs = Keypair::generate_ed25519();
    let (ours, other_node) = (node(&Keypair::generate_ed25519(), &[YAMUX]), node(&theirs, &[YAMUX]));
    let expect = crate::peer_key(&theirs.public());
    let somebody = crate::peer_key(&Keypair::generate_ed25519().public());
    for (expect, right) in [(expect, true), (somebody, false)] {
        let (one, mut other) = pair(8_192);
        let (one, other) = run(join(
            async {
                let mut one = one;
                match ours.handshake(Side::Initiator, expect, &mut one).await {
                    Ok(_) => true,
                    Err(NoiseError::OtherIdentity) => false,
                    Err(error) => panic!("{error}"),
                }
            },
            async { other_node.handshake(Side::Responder, None, &mut other).await.map(|_| ()) },
        ));
        assert_eq!((one, other.is_ok()), (right, right));
    }
}

/// What fails to decrypt ends the stream, and a good frame after it does not mend it.
#[test]
fn fault_h7_a_changed_frame_breaks_the_stream_for_good() {
    run(async {
        let (one, mut other) = secured(256 * 1024).await;
        let mut writer = one.stream;
        writer.write_all(b"first").await.expect("writes");
        writer.flush().await.expect("flushes");
        let mut buf = [0; 5];
        other.stream.read_exact(&mut buf).await.expect("reads");
        // Not encrypted by anybody: as if a byte had changed on the way.
        let mut raw = writer;
        raw.inject(&[0, 17, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]).await;
        raw.write_all(b"later").await.expect("writes");
        raw.flush().await.expect("flushes");
        for _ in 0..2 {
            let error = other.stream.read(&mut buf).await.expect_err("broken");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    });
}

#[test]
fn an_idle_stream_holds_no_buffer() {
    run(async {
        let (one, mut other) = secured(256 * 1024).await;
        let mut writer = one.stream;
        let mut buf = vec![0; 100_000];
        writer.write_all(&buf).await.expect("writes");
        writer.flush().await.expect("flushes");
        other.stream.read_exact(&mut buf).await.expect("reads");
        // Whoever waits for more finds that out.
        assert!(other.stream.read(&mut [0; 1]).now_or_never().is_none());
        assert_eq!((writer.held_bytes(), other.stream.held_bytes()), (0, 0));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn whatever_is_written_is_read(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70_000), 1..6),
        buffer_bytes in 1_usize..40_000,
        reads in 1_usize..80_000,
    ) {
        run(async {
            let (one, other) = secured(buffer_bytes).await;
            let (mut writer, mut reader) = (one.stream, other.stream);
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
