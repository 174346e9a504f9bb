//! Follows the frames of a client by their heads alone: whether one is under way that has to come to its end soon. Reads
//! no payload and judges nothing; what is wrong with a frame the codec says.

/// What the bytes so far belong to.
#[derive(Debug)]
pub(super) struct Frames {
    head: [u8; HEAD],
    /// Bytes of the head that are here.
    filled: usize,
    /// Bytes until the next head.
    left: usize,
    /// The frame under way is DATA, which comes at the pace of whoever takes it.
    data: bool,
    /// A field block has begun and not ended: nothing else may come before it has.
    block: bool,
}

impl Frames {
    /// Behind so many bytes of the connection preface comes the first frame.
    pub(super) fn after(preface: usize) -> Self {
        Self { head: [0; HEAD], filled: 0, left: preface, data: false, block: false }
    }

    /// These came.
    pub(super) fn seen(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(bytes.len());
                self.left -= passed;
                bytes = bytes.get(passed..).unwrap_or_default();
                continue;
            }
            let taken = (HEAD - self.filled).min(bytes.len());
            let (part, rest) = bytes.split_at(taken);
            if let Some(space) = self.head.get_mut(self.filled..self.filled + taken) {
                space.copy_from_slice(part);
            }
            self.filled += taken;
            bytes = rest;
            if self.filled == HEAD {
                self.begin();
            }
        }
    }

    /// Whether a field block, or a frame that carries no data, has begun and is not whole.
    pub(super) fn is_unfinished(&self) -> bool {
        self.block || self.filled > 0 || (self.left > 0 && !self.data)
    }

    /// Whether a field block has begun and not ended.
    pub(super) fn is_in_block(&self) -> bool {
        self.block
    }

    fn begin(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.filled = 0;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.data = kind == DATA;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.block = flags & END_HEADERS == 0;
        }
    }
}

// SPEC: RFC 9113 sections 4.1 and 6.
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: u8, kind: u8, flags: u8) -> Vec<u8> {
        [&[0, 0, length, kind, flags, 0, 0, 0, 1][..], &vec![7; usize::from(length)]].concat()
    }

    #[test]
    fn what_has_begun_is_unfinished_until_its_end() {
        let settings = frame(6, 4, 0);
        let open = frame(3, HEADERS, 0);
        let end = frame(0, CONTINUATION, END_HEADERS);
        for (bytes, unfinished, block) in [
            (vec![], false, false),
            (settings.clone(), false, false),
            (settings[..8].to_vec(), true, false),
            (settings[..14].to_vec(), true, false),
            (frame(5, DATA, 0)[..10].to_vec(), false, false),
            (frame(5, DATA, 0)[..8].to_vec(), true, false),
            (frame(3, HEADERS, END_HEADERS), false, false),
            (open.clone(), true, true),
            ([open.clone(), frame(1, CONTINUATION, 0)].concat(), true, true),
            ([open, end, frame(9, DATA, 1)].concat(), false, false),
        ] {
            for step in [1, 2, 100] {
                let mut frames = Frames::after(24);
                [&[1; 24][..], &bytes].concat().chunks(step).for_each(|part| frames.seen(part));
                assert_eq!((frames.is_unfinished(), frames.is_in_block()), (unfinished, block), "{bytes:?} by {step}");
            }
        }
    }
}
