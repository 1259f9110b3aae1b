//! Diallers and acceptors that speak TLS, but not ours: every one is turned away, with the right word for it.

mod common;
use common::*;
use peerkeep_core::{FaultKind, Step, Violation};
use peerkeep_mesh::{Identity, Reason};
use peerkeep_net::{Io, MeetError, Stack, Verdict};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

/// A careless client, for tests only.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

type Chain = (Vec<CertificateDer<'static>>, rcgen::KeyPair);

fn self_signed(
    algorithm: &'static rcgen::SignatureAlgorithm,
    change: impl FnOnce(&mut rcgen::CertificateParams),
) -> Chain {
    let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
    let mut params = rcgen::CertificateParams::default();
    change(&mut params);
    (vec![params.self_signed(&key).expect("a certificate").der().clone()], key)
}

fn client(chain: Option<Chain>, alpn: &[&[u8]]) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match chain {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let signer = rustls::crypto::ring::sign::any_supported_type(&key).expect("a key");
            let certified = rustls::sign::CertifiedKey::new(chain, signer);
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)))
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// How our acceptor takes such a client.
async fn accepted_with(config: ClientConfig) -> MeetError {
    let b = Node::new(2);
    let (dialled, accepted) = sockets().await;
    let remote = accepted.peer_addr().unwrap();
    let dial = async {
        let name = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
        if let Ok(mut tls) = TlsConnector::from(Arc::new(config)).connect(name, dialled).await {
            let _ = tls.write_all(&[0xff, 0xff]).await;
            let _ = tls.read_to_end(&mut Vec::new()).await;
        }
    };
    let met = async { b.stack.meet(Io::Tcp(accepted), accept_terms(remote)).await.map(|_| ()) };
    let (met, ()) = soon(async { tokio::join!(met, dial) }).await;
    met.expect_err("turned away")
}

fn kind(error: &MeetError) -> (Step, FaultKind) {
    match error {
        MeetError::Fault(fault) => (fault.step, fault.kind),
        other => panic!("{other:?}"),
    }
}

const OURS: &[&[u8]] = &[b"peerkeep/1"];

#[tokio::test]
async fn fault_h8_tls_without_our_protocol_name_is_turned_away() {
    let plain = || Some(self_signed(&rcgen::PKCS_ED25519, |_| ()));
    assert_eq!(kind(&accepted_with(client(plain(), &[])).await), (Step::Secure, FaultKind::Protocol));
    assert_eq!(kind(&accepted_with(client(plain(), &[b"h2"])).await), (Step::Secure, FaultKind::Protocol));
}

#[tokio::test]
async fn fault_h8_certificates_that_are_not_ours_are_turned_away() {
    let bad: [(&str, Option<Chain>); 6] = [
        ("none", None),
        ("another kind of key", Some(self_signed(&rcgen::PKCS_ECDSA_P256_SHA256, |_| ()))),
        (
            "oversized",
            Some(self_signed(&rcgen::PKCS_ED25519, |params| {
                params.custom_extensions =
                    vec![rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0; 5000])];
            })),
        ),
        (
            "unknown critical extension",
            Some(self_signed(&rcgen::PKCS_ED25519, |params| {
                let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
                extension.set_criticality(true);
                params.custom_extensions = vec![extension];
            })),
        ),
        ("a chain", {
            let (mut chain, key) = self_signed(&rcgen::PKCS_ED25519, |_| ());
            chain.push(chain[0].clone());
            Some((chain, key))
        }),
        ("garbage", {
            let (_, key) = self_signed(&rcgen::PKCS_ED25519, |_| ());
            Some((vec![CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])], key))
        }),
    ];
    for (what, chain) in bad {
        let error = accepted_with(client(chain, OURS)).await;
        assert_eq!(kind(&error), (Step::Secure, FaultKind::Secure), "{what}");
    }
    let (chain, key) = self_signed(&rcgen::PKCS_ED25519, |_| ());
    let error = accepted_with(client(Some((vec![chain[0].clone(); 1000], key)), OURS)).await;
    assert_eq!(kind(&error).0, Step::Secure, "a thousand certificates");
}

#[tokio::test]
async fn a_certificate_shown_without_its_key_is_turned_away() {
    let (_, other) = self_signed(&rcgen::PKCS_ED25519, |_| ());
    let stolen = CertificateDer::from(Identity::from_seed(&[1; 32]).unwrap().certificate().to_vec());
    let error = accepted_with(client(Some((vec![stolen], other)), OURS)).await;
    assert_eq!(kind(&error), (Step::Secure, FaultKind::Secure));
}

#[tokio::test]
async fn fault_h8_dates_in_certificates_mean_nothing_and_the_hello_decides() {
    let (chain, key) = self_signed(&rcgen::PKCS_ED25519, |params| {
        params.not_after = rcgen::date_time_ymd(1999, 1, 1);
    });
    let error = accepted_with(client(Some((chain, key)), OURS)).await;
    assert!(matches!(error, MeetError::Violation(Violation::TooLarge)), "{error:?}");
}

/// How our acceptor takes raw bytes.
async fn accepted_raw(bytes: &[u8]) -> (MeetError, Vec<u8>) {
    let b = Node::new(2);
    let (mut dialled, accepted) = sockets().await;
    let remote = accepted.peer_addr().unwrap();
    let dial = async {
        dialled.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = dialled.read_to_end(&mut answer).await;
        answer
    };
    let met = async { b.stack.meet(Io::Tcp(accepted), accept_terms(remote)).await.map(|_| ()) };
    let (met, answer) = soon(async { tokio::join!(met, dial) }).await;
    (met.expect_err("turned away"), answer)
}

#[tokio::test]
async fn fault_h10_plaintext_and_older_tls_are_refused_and_called_so() {
    let (error, _) = accepted_raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(kind(&error), (Step::Secure, FaultKind::Secure));
    let MeetError::Fault(fault) = error else { panic!() };
    assert_eq!(fault.detail, peerkeep_mesh::tls::Detail::NotTls as u32);
    // A ClientHello of TLS 1.2: no supported_versions, one old suite.
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0xc0, 0x2f, 1, 0]);
    body.extend_from_slice(&[0, 0x10, 0, 10, 0, 4, 0, 2, 0, 0x1d, 0, 13, 0, 4, 0, 2, 8, 7]);
    let mut hello = vec![
        0x16,
        3,
        1,
        0,
        u8::try_from(body.len() + 4).unwrap(),
        1,
        0,
        0,
        u8::try_from(body.len()).unwrap(),
    ];
    hello.extend_from_slice(&body);
    let (error, answer) = accepted_raw(&hello).await;
    let MeetError::Fault(fault) = error else { panic!("{error:?}") };
    assert_eq!(
        (fault.kind, fault.detail),
        (FaultKind::Secure, peerkeep_mesh::tls::Detail::Incompatible as u32)
    );
    assert_eq!(answer.first(), Some(&0x15), "told in TLS's words");
}

#[tokio::test]
async fn fault_h9_garbage_of_every_length_ends_at_once() {
    // Shorter than a record's header, it may still become one: the deadline of the handshake is for those.
    for length in [6, 7, 100, 20_000] {
        let bytes: Vec<u8> = (0..length).map(|n: u32| (n * 37 % 256) as u8).collect();
        accepted_raw(&bytes).await;
    }
}

/// Fault I8.
#[tokio::test]
async fn fault_d16_another_identity_than_expected_is_never_met_and_learns_nothing_of_us() {
    let (a, b, c) = (Node::new(1), Node::new(2), Node::new(3));
    let (dialled, accepted) = sockets().await;
    let (near, far) =
        soon(async { tokio::join!(dial(&a, Some(c.key()), dialled), accept(&b, admit(), accepted)) }).await;
    assert_eq!(kind(&near.map(|_| ()).unwrap_err()), (Step::Secure, FaultKind::Identity));
    assert_eq!(kind(&far.map(|_| ()).unwrap_err()).0, Step::Secure);
}

#[tokio::test]
async fn s3_24_a_refusal_reaches_the_dialler_with_its_reason_and_time() {
    let (a, b) = (Node::new(1), Node::new(2));
    let (dialled, accepted) = sockets().await;
    let why = peerkeep_core::Refusal::Full(peerkeep_core::Limit::Inbound);
    let turn = Verdict::Turn { why, retry_after: Duration::from_secs(7) };
    let (near, far) =
        soon(async { tokio::join!(dial(&a, Some(b.key()), dialled), accept(&b, turn, accepted)) }).await;
    match near.map(|_| ()).unwrap_err() {
        MeetError::Declined { key, code, reason, retry_after, newer_epoch } => {
            assert_eq!(code, Reason::Full.code());
            assert_eq!((key, retry_after.as_secs(), newer_epoch), (Some(b.key()), 7, 0));
            assert_eq!(reason, Reason::Full.text());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(kind(&far.map(|_| ()).unwrap_err()), (Step::Hello, FaultKind::Declined));
}

#[tokio::test]
async fn s3_29_another_network_secret_version_or_identity_is_refused_with_the_reason() {
    type Change = fn(&mut peerkeep_mesh::MeshConfig);
    let cases: [(Change, FaultKind, Reason); 4] = [
        (|c| c.network = "other".into(), FaultKind::Network, Reason::Network),
        (
            |c| c.secret = peerkeep_mesh::Secret::new(*b"not the secret at all").ok(),
            FaultKind::Network,
            Reason::Network,
        ),
        (|c| c.versions = (1, 1), FaultKind::Version, Reason::Version),
        (|_| (), FaultKind::Identity, Reason::NotAllowed),
    ];
    for (change, expected, reason) in cases {
        let a = Node::with(1, change);
        let b = Node::with(2, |c| {
            c.versions = (2, 2);
            if reason == Reason::NotAllowed {
                c.allow = Some([Identity::from_seed(&[9; 32]).unwrap().key()].into());
            }
        });
        let (near, far) = meet(&a, &b).await;
        assert_eq!(kind(&far.map(|_| ()).unwrap_err()), (Step::Hello, expected));
        match near.map(|_| ()).unwrap_err() {
            MeetError::Declined { reason: told, .. } if reason == Reason::Version => {
                assert_eq!(told, "no common version: here 2 to 2, there 1 to 1");
            }
            MeetError::Declined { reason: told, .. } => assert_eq!(told, reason.text()),
            other => panic!("{other:?}"),
        }
    }
}
