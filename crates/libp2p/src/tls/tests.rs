//! Certificates and handshakes: with every kind of identity, with the specification's own certificates, and with those who
//! break the rules.

use super::certificate::{signed_key, vouch};
use super::*;
use crate::testing::{every_kind, rsa};
use der::asn1::{AnyRef, BitStringRef};
use der::{Encode, Tag};
use rcgen::{
    CertificateParams, CustomExtension, KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey, date_time_ymd,
};
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, ClientConnection, ServerConnection};
use std::time::Duration;

const YAMUX: &str = "/yamux/1.0.0";
/// libp2p's extension.
const OURS: [u64; 9] = [1, 3, 6, 1, 4, 1, 53_594, 1, 1];

fn node(pair: &Keypair, muxers: &[&str]) -> TlsNode {
    TlsNode::new(pair, muxers).expect("a node")
}

fn anybody() -> TlsNode {
    node(&Keypair::generate_ed25519(), &[YAMUX])
}

/// How a handshake ended on each side: one side's error is an alert for the other.
fn shake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> (Result<ClientConnection, Error>, Result<ServerConnection, Error>) {
    let mut client = ClientConnection::new(client, TlsNode::no_name()).expect("a client");
    let mut server = ServerConnection::new(server).expect("a server");
    let (mut one, mut other) = (Ok(()), Ok(()));
    for _ in 0..4 {
        carry(&mut client, &mut server, &mut other);
        carry(&mut server, &mut client, &mut one);
    }
    (one.map(|()| client), other.map(|()| server))
}

/// Takes what one side has to say to the other.
fn carry<A, B>(
    from: &mut rustls::ConnectionCommon<A>,
    to: &mut rustls::ConnectionCommon<B>,
    end: &mut Result<(), Error>,
) {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).expect("memory");
    }
    let mut bytes = &bytes[..];
    while end.is_ok() && !bytes.is_empty() {
        to.read_tls(&mut bytes).expect("memory");
        *end = to.process_new_packets().map(|_| ());
    }
}

/// Both sides' ends of a handshake that works.
fn shaken(
    client: &TlsNode,
    server: &TlsNode,
    expect: Option<PeerKey>,
) -> (ClientConnection, ServerConnection) {
    let (one, other) = shake(client.client(expect), server.server());
    (one.expect("secures"), other.expect("secures"))
}

#[test]
fn every_kind_of_identity_is_proven_on_both_sides_and_a_multiplexer_agreed() {
    for (a, b) in every_kind().into_iter().zip(every_kind().into_iter().rev()) {
        let expect = crate::peer_key(&b.public()).expect("a name");
        let (one, other) = shaken(&node(&a, &["/new", YAMUX]), &node(&b, &[YAMUX, "/old"]), Some(expect));
        let (theirs, muxer) = proven(&one).expect("proven");
        assert_eq!((theirs.public, theirs.key, muxer.as_deref()), (b.public(), expect, Some(YAMUX)));
        let (theirs, muxer) = proven(&other).expect("proven");
        assert_eq!((theirs.public, muxer.as_deref()), (a.public(), Some(YAMUX)));
        assert_eq!(one.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    }
}

#[test]
fn without_a_common_multiplexer_none_is_agreed() {
    let (one, other) = shaken(&anybody(), &node(&Keypair::generate_ed25519(), &[]), None);
    assert_eq!((proven(&one).expect("proven").1, proven(&other).expect("proven").1), (None, None));
}

/// Who only knows P-256 is met too, in a second round.
#[test]
fn another_curve_is_agreed_when_the_other_side_knows_no_other() {
    let (ours, theirs) = (anybody(), anybody());
    let mut provider = suites();
    provider.kx_groups = vec![provider::kx_group::SECP256R1];
    let mut client = (*theirs.client(None)).clone();
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let config = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("a version");
    let mut narrow = config
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { expect: None }))
        .with_client_cert_resolver(client.client_auth_cert_resolver.clone());
    narrow.alpn_protocols = std::mem::take(&mut client.alpn_protocols);
    let (one, other) = shake(Arc::new(narrow), ours.server());
    assert!(one.is_ok() && other.is_ok(), "{:?} {:?}", one.err(), other.err());
}

fn now() -> UnixTime {
    UnixTime::now()
}

fn read(certificate: &[u8]) -> Result<Proven, BadCertificate> {
    Certificate::parse(certificate)?.check(now())
}

/// The certificates in the specification, which others made.
#[test]
fn the_specifications_certificates_are_read_as_it_says() {
    let vectors: [(&[u8], &str); 3] = [
        (
            include_bytes!("../testdata/tls-ed25519.der"),
            "12D3KooWJRSrypvnpHgc6ZAgyCni4KcSmbV7uGRaMw5LgMKT18fq",
        ),
        (include_bytes!("../testdata/tls-ecdsa.der"), "QmZcrvr3r4S3QvwFdae3c2EWTfo792Y14UpzCZurhmiWeX"),
        (
            include_bytes!("../testdata/tls-secp256k1.der"),
            "16Uiu2HAm2dSCBFxuge46aEt7U1oejtYuBUZXxASHqmcfVmk4gsbx",
        ),
    ];
    for (certificate, id) in vectors {
        assert_eq!(read(certificate).expect("taken").public.to_peer_id().to_string(), id);
    }
    let forged = include_bytes!("../testdata/tls-forged.der");
    assert_eq!(read(forged), Err(BadCertificate::Signature));
}

type Made = (CertificateDer<'static>, KeyPair);

/// A certificate that is right but for `change`.
fn made(pair: &Keypair, change: impl FnOnce(&mut CertificateParams, &KeyPair)) -> Made {
    made_with(&rcgen::PKCS_ECDSA_P256_SHA256, pair, change)
}

fn made_with(
    algorithm: &'static SignatureAlgorithm,
    pair: &Keypair,
    change: impl FnOnce(&mut CertificateParams, &KeyPair),
) -> Made {
    let key = KeyPair::generate_for(algorithm).expect("a key");
    let mut params = CertificateParams::default();
    params.custom_extensions = vec![vouch(pair, &key.subject_public_key_info()).expect("signs")];
    change(&mut params, &key);
    (params.self_signed(&key).expect("a certificate").der().clone(), key)
}

/// A certificate of a new identity, and what comes of it.
fn outcome(change: impl FnOnce(&mut CertificateParams, &KeyPair)) -> Result<Proven, BadCertificate> {
    read(&made(&Keypair::generate_ed25519(), change).0)
}

fn extension(oid: &[u64], content: &[u8], critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

#[test]
fn fault_h8_a_certificate_without_or_with_two_identities_is_refused() {
    assert_eq!(outcome(|params, _| params.custom_extensions.clear()), Err(BadCertificate::NoIdentity));
    let other = |params: &mut CertificateParams, _: &KeyPair| {
        params.custom_extensions = vec![extension(&[1, 3, 6, 1, 4, 1, 53_594, 1, 2], &[5, 0], false)];
    };
    assert_eq!(outcome(other), Err(BadCertificate::NoIdentity));
    let twice = |params: &mut CertificateParams, _: &KeyPair| {
        params.custom_extensions.push(params.custom_extensions[0].clone());
    };
    assert_eq!(outcome(twice), Err(BadCertificate::Malformed));
}

#[test]
fn fault_h8_an_unknown_critical_extension_is_refused_and_any_other_ignored() {
    let with = |critical| {
        outcome(move |params, _| {
            params.custom_extensions.push(extension(&[1, 3, 6, 1, 4, 1, 53_594, 9], &[5, 0], critical));
        })
    };
    assert_eq!(with(true), Err(BadCertificate::Critical));
    assert!(with(false).is_ok());
    let ours = outcome(|params, _| params.custom_extensions[0].set_criticality(true));
    assert!(ours.is_ok(), "libp2p's own may be critical");
}

/// The specification has these conditions checked.
#[test]
fn fault_h8_a_certificate_that_is_expired_or_not_yet_valid_is_refused() {
    assert_eq!(
        outcome(|params, _| params.not_after = date_time_ymd(2001, 1, 1)),
        Err(BadCertificate::Expired)
    );
    assert_eq!(
        outcome(|params, _| params.not_before = date_time_ymd(2300, 1, 1)),
        Err(BadCertificate::NotYet)
    );
    let backwards = outcome(|params, _| {
        params.not_before = date_time_ymd(2300, 1, 1);
        params.not_after = date_time_ymd(1999, 1, 1);
    });
    assert_eq!(backwards, Err(BadCertificate::NotYet));
    let (exact, _) = made(&Keypair::generate_ed25519(), |params, _| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 2);
    });
    let at = |seconds| {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        Certificate::parse(&exact).expect("reads").check(now).err()
    };
    let (from, to) = (978_307_200, 978_393_600);
    assert_eq!([at(from - 1), at(from)], [Some(BadCertificate::NotYet), None]);
    assert_eq!([at(to), at(to + 1)], [None, Some(BadCertificate::Expired)]);
}

#[test]
fn fault_h8_an_oversized_certificate_is_not_looked_at_and_the_longest_identity_fits() {
    let padded = |length: usize| {
        let padding = vec![0; length];
        made(&rsa(), move |params, _| {
            params.custom_extensions.push(extension(&[1, 3, 6, 1, 4, 1, 53_594, 9], &padding, false));
        })
        .0
    };
    // What an RSA key and a signature of 8,192 bits have more than ours of 2,048.
    let longest = padded(2 * (1_024 - 256));
    assert!(longest.len() < MAX_CERTIFICATE_BYTES && read(&longest).is_ok(), "{}", longest.len());
    let long = padded(MAX_CERTIFICATE_BYTES);
    assert_eq!(read(&long), Err(BadCertificate::TooLong));
    assert_eq!(read(&vec![0x30; 1 << 20]), Err(BadCertificate::TooLong));
}

#[test]
fn fault_h6_an_identity_that_did_not_sign_the_certificates_key_is_refused() {
    let (pair, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let (_, elsewhere) = made(&pair, |_, _| {});
    let copied = |params: &mut CertificateParams, _: &KeyPair| {
        params.custom_extensions = vec![vouch(&pair, &elsewhere.subject_public_key_info()).expect("signs")];
    };
    assert_eq!(outcome(copied), Err(BadCertificate::Signature), "for another certificate");
    let claim = |key: Vec<u8>, signature: Vec<u8>| {
        outcome(move |params, _| {
            let content = signed_key(&key, &signature).expect("short");
            params.custom_extensions = vec![CustomExtension::from_oid_content(&OURS, content)];
        })
    };
    let key = other.public().encode_protobuf();
    assert_eq!(claim(key.clone(), vec![7; 64]), Err(BadCertificate::Signature), "made up");
    assert_eq!(claim(key, Vec::new()), Err(BadCertificate::Signature), "empty");
    assert_eq!(claim(vec![8, 9, 18, 1, 0], vec![7; 64]), Err(BadCertificate::Key), "a key of no kind");
    assert_eq!(claim(vec![0; 1_201], vec![7; 64]), Err(BadCertificate::Key), "a key that is too long");
}

/// Signed by the right identity, which spells its own key otherwise.
#[test]
fn fault_i2_an_identity_in_another_spelling_is_refused() {
    let pair = Keypair::generate_ed25519();
    let mut key = pair.public().encode_protobuf();
    key.extend_from_slice(&[0x18, 0x01]);
    let spelled = outcome(|params, made| {
        let message = [b"libp2p-tls-handshake:", &made.subject_public_key_info()[..]].concat();
        let content = signed_key(&key, &pair.sign(&message).expect("signs")).expect("short");
        params.custom_extensions = vec![CustomExtension::from_oid_content(&OURS, content)];
    });
    assert_eq!(spelled, Err(BadCertificate::Key));
}

/// Each byte is signed, or part of a signature, or says the same as another.
#[test]
fn fault_h3_a_certificate_with_any_byte_changed_or_missing_is_refused() {
    let (certificate, _) = made(&Keypair::generate_ed25519(), |_, _| {});
    assert!(read(&certificate).is_ok());
    for at in 0..certificate.len() {
        for bit in [1, 0x80] {
            let mut bent = certificate.to_vec();
            bent[at] ^= bit;
            assert!(read(&bent).is_err(), "bit {bit} of byte {at}");
        }
        assert!(read(&certificate[..at]).is_err(), "cut at {at}");
    }
    assert_eq!(read(&[&certificate[..], &[0]].concat()), Err(BadCertificate::Malformed));
    let last = certificate.len() - 1;
    let mut bent = certificate.to_vec();
    bent[last] ^= 1;
    assert_eq!(read(&bent), Err(BadCertificate::SelfSignature));
}

/// What comes of a certificate in which `from` is `to`, signed anew by its own key.
fn rewritten(from: &[u8], to: &[u8]) -> Result<Proven, BadCertificate> {
    let (certificate, key) = made(&Keypair::generate_ed25519(), |_, _| {});
    let mut body = Certificate::parse(&certificate).expect("reads").signed.to_vec();
    let at = body.windows(from.len()).position(|window| window == from).expect("it is there");
    body.splice(at..at + from.len(), to.iter().copied());
    let length = u16::try_from(body.len() - 4).expect("short");
    body[2..4].copy_from_slice(&length.to_be_bytes());
    let signature = BitStringRef::from_bytes(&key.sign(&body).expect("signs")).and_then(|bits| bits.to_der());
    // ecdsa-with-SHA256
    let algorithm = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let parts = [&body[..], &algorithm, &signature.expect("short")].concat();
    read(&AnyRef::new(Tag::Sequence, &parts).and_then(|whole| whole.to_der()).expect("short"))
}

/// Odd ones that their own key did sign.
#[test]
fn fault_h8_certificates_of_other_versions_forms_and_curves_are_refused() {
    let version = [0xa0, 3, 2, 1, 2];
    assert!(rewritten(&version, &version).is_ok());
    assert_eq!(rewritten(&version, &[0xa0, 3, 2, 1, 1]), Err(BadCertificate::Malformed), "version 2");
    assert_eq!(rewritten(&version, &[]), Err(BadCertificate::Malformed), "version 1");
    let (sha256, sha384) = ([0xce, 0x3d, 4, 3, 2], [0xce, 0x3d, 4, 3, 3]);
    assert_eq!(rewritten(&sha256, &sha384), Err(BadCertificate::Malformed), "signed in two ways");
    // prime256v1, and another curve's name for the same point.
    let (named, other) = ([0xce, 0x3d, 3, 1, 7], [0xce, 0x3d, 3, 1, 1]);
    assert_eq!(rewritten(&named, &other), Err(BadCertificate::Algorithm), "another curve");
    // The end of the key, before the extensions.
    let extensions = [0xa3, 0x7c, 0x30, 0x7a];
    let unique = [0x81, 2, 0, 7, 0xa3, 0x7c, 0x30, 0x7a];
    assert_eq!(rewritten(&extensions, &unique), Err(BadCertificate::Malformed), "a unique identifier");
}

#[test]
fn certificates_signed_with_ed25519_are_taken_and_other_kinds_refused() {
    let pair = Keypair::generate_ed25519();
    assert!(read(&made_with(&rcgen::PKCS_ED25519, &pair, |_, _| {}).0).is_ok());
    let long = made_with(&rcgen::PKCS_ECDSA_P384_SHA384, &pair, |_, _| {}).0;
    assert_eq!(read(&long), Err(BadCertificate::Algorithm));
}

/// A node that shows this chain and holds that key.
fn showing(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> TlsNode {
    let der = key.serialize_der();
    let key = provider::sign::any_supported_type(&PrivatePkcs8KeyDer::from(&der[..]).into()).expect("a key");
    TlsNode::with(&Keypair::generate_ed25519(), &[YAMUX], chain, key).expect("a node")
}

/// How both roles of ours take that node.
fn both_ways(theirs: &TlsNode) -> [Error; 2] {
    let ours = anybody();
    let (one, _) = shake(ours.client(None), theirs.server());
    let (_, other) = shake(theirs.client(None), ours.server());
    [one.map(|_| ()).expect_err("refused"), other.map(|_| ()).expect_err("refused")]
}

/// What is wrong with the chain itself, and with who vouched for it (fault H6).
#[test]
fn fault_h8_a_handshake_with_a_bad_chain_is_refused_in_both_roles() {
    let pair = Keypair::generate_ed25519();
    let (certificate, key) = made(&pair, |_, _| {});
    let (spare, other_key) = made(&pair, |_, _| {});
    assert!(shake(anybody().client(None), showing(vec![certificate.clone()], &key).server()).0.is_ok());
    for error in both_ways(&showing(vec![certificate.clone(), spare.clone()], &key)) {
        assert_eq!(error, CertificateError::BadEncoding.into(), "two certificates");
    }
    for error in both_ways(&showing(vec![spare; 100], &other_key)) {
        assert!(matches!(error, Error::InvalidCertificate(_)), "a hundred: {error:?}");
    }
    for error in both_ways(&showing(vec![certificate], &other_key)) {
        assert_eq!(error, CertificateError::BadSignature.into(), "somebody else's certificate");
    }
    let (expired, key) = made(&pair, |params, _| params.not_after = date_time_ymd(2001, 1, 1));
    for error in both_ways(&showing(vec![expired], &key)) {
        assert_eq!(error, CertificateError::Expired.into());
    }
    let (forged, key) = made(&pair, |params, _| {
        params.custom_extensions = vec![vouch(&pair, &other_key.subject_public_key_info()).expect("signs")];
    });
    for error in both_ways(&showing(vec![forged], &key)) {
        assert_eq!(error, CertificateError::BadSignature.into(), "vouched for by nobody");
    }
    let (nameless, key) = made(&pair, |params, _| params.custom_extensions.clear());
    for error in both_ways(&showing(vec![nameless], &key)) {
        assert!(matches!(error, Error::InvalidCertificate(CertificateError::Other(_))), "{error:?}");
        assert_eq!(kind_of(&error), FaultKind::Secure);
    }
}

#[test]
fn fault_h8_whoever_shows_no_certificate_is_refused() {
    let ours = anybody();
    let builder = ClientConfig::builder_with_provider(Arc::new(suites()));
    let config = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("a version");
    let verifier = Arc::new(Verifier { expect: None });
    let mut shy = config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    shy.alpn_protocols = vec![ALPN.to_vec()];
    let (_, other) = shake(Arc::new(shy), ours.server());
    assert_eq!(other.map(|_| ()), Err(Error::NoCertificatesPresented));
}

#[test]
fn fault_h8_tls_without_a_protocol_of_libp2ps_is_turned_away() {
    let (ours, theirs) = (anybody(), anybody());
    let speaking = |protocols: &[&[u8]]| {
        let mut client = (*theirs.client(None)).clone();
        client.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        shake(Arc::new(client), ours.server())
    };
    let (one, other) = speaking(&[b"h2", b"http/1.1"]);
    let (one, other) = (one.map(|_| ()).expect_err("refused"), other.map(|_| ()).expect_err("refused"));
    assert_eq!(other, Error::NoApplicationProtocol);
    assert_eq!([kind_of(&one), kind_of(&other)], [FaultKind::Protocol; 2]);
    let (one, other) = speaking(&[]);
    assert_eq!(proven(&one.expect("secures")), Err(TlsError::NoProtocol));
    assert_eq!(proven(&other.expect("secures")), Err(TlsError::NoProtocol));
}

/// The dialler ends it before it shows who it is.
#[test]
fn another_identity_than_expected_is_refused_and_learns_nothing_of_us() {
    let (ours, theirs) = (anybody(), anybody());
    let expect = crate::peer_key(&Keypair::generate_ed25519().public());
    let (one, other) = shake(ours.client(expect), theirs.server());
    let error = one.map(|_| ()).expect_err("refused");
    assert_eq!(error, CertificateError::ApplicationVerificationFailure.into());
    assert_eq!(kind_of(&error), FaultKind::Identity);
    assert_eq!(other.map(|_| ()), Err(Error::AlertReceived(AlertDescription::AccessDenied)));
}

/// The first message of a client that is right but for its version, TLS 1.2.
#[test]
fn fault_h10_an_older_tls_is_refused() {
    let extensions = [0, 10, 0, 4, 0, 2, 0, 0x1d, 0, 13, 0, 4, 0, 2, 4, 3];
    let suites = [0, 2, 0xc0, 0x2b];
    let body = [&[3, 3][..], &[7; 32], &[0], &suites, &[1, 0, 0, 16], &extensions].concat();
    let length = u8::try_from(body.len()).expect("short");
    let hello = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat();
    let mut server = ServerConnection::new(anybody().server()).expect("a server");
    server.read_tls(&mut &hello[..]).expect("memory");
    let error = server.process_new_packets().expect_err("refused");
    assert_eq!(error, rustls::PeerIncompatible::SupportedVersionsExtensionRequired.into());
    assert_eq!(proven(&server), Err(TlsError::NoProtocol));
}

/// An identity's secret is in neither configuration, and no text shows what it is.
#[test]
fn the_key_of_the_certificate_is_not_the_identity() {
    let pair = Keypair::ed25519_from_bytes([0xab; 32]).expect("a seed");
    let node = node(&pair, &[YAMUX]);
    let text = format!("{node:?}");
    assert!(!text.contains("171, 171, 171, 171") && !text.contains("abababab"), "{text}");
    let (one, _) = shaken(&node, &node, None);
    let certificate = &one.peer_certificates().expect("one")[0];
    assert!(certificate.len() < 512, "{}", certificate.len());
    let spki = Certificate::parse(certificate).expect("reads").spki;
    let public = pair.public().try_into_ed25519().expect("it is one").to_bytes();
    assert!(!spki.windows(32).any(|window| window == public));
}
