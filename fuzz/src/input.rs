//! Reads decisions from an input, a byte or a few at a time; when it is used up, everything is 0. So every input is
//! a valid story, and a small change of it is a small change of the story.

pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Below `bound`, which is at most 256.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let count = N.min(self.0.len());
        let (taken, rest) = self.0.split_at(count);
        bytes[..count].copy_from_slice(taken);
        self.0 = rest;
        bytes
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// Small, near a round number, or anything.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=199 => u64::from(small % 8),
            200..=239 => u64::MAX - u64::from(self.byte() % 4),
            240..=247 => (1 << 62) + u64::from(self.byte() % 3),
            _ => self.u64(),
        }
    }

    /// A piece whose length is the next byte; 255 stands for 255 and the byte after it.
    pub fn piece(&mut self) -> &'a [u8] {
        let length = match usize::from(self.byte()) {
            255 => 255 + usize::from(self.byte()),
            short => short,
        };
        self.take(length)
    }

    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
