//! Counts whole Yamux frames in a stream of bytes, so that a peer that trickles bytes is not taken for alive (fault
//! C3). Pure. It checks nothing: the multiplexer does.

/// Where in a frame the stream is.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    header: [u8; HEADER_BYTES],
    have: u8,
    body_left: u32,
}

const HEADER_BYTES: usize = 12;
const DATA: u8 = 0;

impl Frames {
    /// Takes the next bytes; gives how many frames ended in them.
    pub(crate) fn handle(&mut self, mut bytes: &[u8]) -> u32 {
        let mut ended = 0;
        while !bytes.is_empty() {
            if self.body_left > 0 {
                let skip = bytes.len().min(usize::try_from(self.body_left).unwrap_or(usize::MAX));
                bytes = &bytes[skip..];
                self.body_left -= u32::try_from(skip).unwrap_or(self.body_left);
                ended += u32::from(self.body_left == 0);
                continue;
            }
            let have = usize::from(self.have);
            let take = bytes.len().min(HEADER_BYTES - have);
            self.header[have..have + take].copy_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            self.have += u8::try_from(take).unwrap_or(0);
            if usize::from(self.have) == HEADER_BYTES {
                self.have = 0;
                let [_, kind, .., a, b, c, d] = self.header;
                self.body_left = if kind == DATA { u32::from_be_bytes([a, b, c, d]) } else { 0 };
                ended += u32::from(self.body_left == 0);
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, length: u32, body: usize) -> Vec<u8> {
        let mut bytes = vec![0, kind, 0, 0, 0, 0, 0, 1];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.resize(bytes.len() + body, 7);
        bytes
    }

    #[test]
    fn fault_c3_a_trickle_counts_only_when_a_frame_is_whole() {
        let mut frames = Frames::default();
        let bytes = frame(DATA, 100, 100);
        for byte in &bytes[..bytes.len() - 1] {
            assert_eq!(frames.handle(&[*byte]), 0);
        }
        assert_eq!(frames.handle(&bytes[bytes.len() - 1..]), 1);
        assert_eq!(frames.handle(&frame(2, 0xffff_ffff, 0)), 1, "only data has a body");
    }

    proptest! {
        #[test]
        fn fault_f5_frames_count_the_same_however_they_are_split(
            bodies in proptest::collection::vec((0u8..4, 0u32..50), 1..20), split in 1usize..60,
        ) {
            let mut bytes = Vec::new();
            for (kind, length) in &bodies {
                let body = if *kind == DATA { usize::try_from(*length).expect("small") } else { 0 };
                bytes.extend(frame(*kind, *length, body));
            }
            let mut frames = Frames::default();
            let counted: u32 = bytes.chunks(split).map(|chunk| frames.handle(chunk)).sum();
            prop_assert_eq!(usize::try_from(counted).expect("small"), bodies.len());
        }
    }
}
