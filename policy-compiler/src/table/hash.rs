//! Hashes that the index is addressed by. They only ever find candidates: whatever they find is compared whole.

use std::hash::{BuildHasher, Hash, Hasher};

/// A map from such hashes.
pub(super) type HashedMap<V> = hashbrown::HashMap<u64, V, AsIs>;

/// The keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AsIs(u64);

impl BuildHasher for AsIs {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The secret of one table: nobody outside can tell which texts fall together.
#[derive(Clone, Debug, Default)]
pub(super) struct Seed(foldhash::fast::RandomState);

impl Seed {
    /// The hash of bytes.
    pub(super) fn bytes(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }

    /// The hash of bytes whose ASCII case does not matter.
    pub(super) fn caseless(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        let mut chunk = [0u8; 32];
        for part in bytes.chunks(chunk.len()) {
            let held = chunk.get_mut(..part.len()).unwrap_or_default();
            held.copy_from_slice(part);
            held.make_ascii_lowercase();
            hasher.write(held);
        }
        hasher.finish()
    }

    /// The hash of anything.
    pub(super) fn of(&self, value: impl Hash) -> u64 {
        self.0.hash_one(value)
    }
}

/// The hash of a sequence that grows by one part.
pub(super) fn extend(held: u64, part: u64) -> u64 {
    let product = u128::from(held ^ part) * u128::from(0x9E37_79B9_7F4A_7C15_u64 ^ held.rotate_left(32) | 1);
    let [low, high] = [product & u128::from(u64::MAX), product >> 64];
    u64::try_from(low).unwrap_or_default() ^ u64::try_from(high).unwrap_or_default()
}
