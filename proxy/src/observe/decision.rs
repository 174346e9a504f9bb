//! Decision ids, and the facts of refused requests that they stand for.

use std::collections::{HashMap, VecDeque};
use std::io::Read as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

/// What a refused client is given: it tells the client nothing, and the owner of the policy everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DecisionId([u8; 16]);

impl DecisionId {
    /// The 32 hexadecimal digits of the header `x-eastwall-decision-id`, without allocation.
    pub(crate) fn hexadecimal(self) -> [u8; 32] {
        let mut digits = [b'0'; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            for (digit, nibble) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
                *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
            }
        }
        digits
    }

    /// Reads what [`Self::hexadecimal`] wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
    }
}

impl std::fmt::Display for DecisionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Makes ids: SHA-256 of a secret of this process and a counter, so that none can be guessed from another.
#[derive(Debug)]
pub(super) struct DecisionIds {
    secret: [u8; 32],
    next: AtomicU64,
}

impl DecisionIds {
    /// Takes the secret from the kernel.
    pub(super) fn new() -> std::io::Result<Self> {
        let mut secret = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
        Ok(Self { secret, next: AtomicU64::new(0) })
    }

    /// A new id.
    pub(super) fn next(&self) -> DecisionId {
        let mut hash = Sha256::new_with_prefix(self.secret);
        hash.update(self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let mut id = [0; 16];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        DecisionId(id)
    }
}

/// The log lines of recent refusals, by id. Bounded as a whole and for each source, so that one noisy peer cannot push
/// out what another one's owner wants explained.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    lines: HashMap<DecisionId, Box<str>>,
    by_source: HashMap<IpAddr, VecDeque<DecisionId>>,
    order: VecDeque<(IpAddr, DecisionId)>,
}

impl Decisions {
    /// Keeps a refusal.
    pub(super) fn keep(&self, source: IpAddr, id: DecisionId, line: &str) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = &mut *held;
        let of_source = held.by_source.entry(source).or_default();
        of_source.push_back(id);
        if of_source.len() > PER_SOURCE
            && let Some(oldest) = of_source.pop_front()
        {
            held.lines.remove(&oldest);
        }
        held.lines.insert(id, line.into());
        held.order.push_back((source, id));
        if held.order.len() > 2 * TOTAL {
            // What a noisy source lost leaves its place here.
            held.order.retain(|(_, id)| held.lines.contains_key(id));
        }
        while held.lines.len() > TOTAL {
            let Some((source, oldest)) = held.order.pop_front() else { break };
            if held.lines.remove(&oldest).is_some()
                && let Some(of_source) = held.by_source.get_mut(&source)
            {
                of_source.retain(|id| *id != oldest);
                if of_source.is_empty() {
                    held.by_source.remove(&source);
                }
            }
        }
    }

    /// The line of a refusal, if it is still held.
    pub(super) fn find(&self, id: DecisionId) -> Option<String> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.lines.get(&id).map(|line| line.to_string())
    }
}

/// About a kilobyte each.
const TOTAL: usize = 8192;

const PER_SOURCE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_spelled_one_way_and_differ() {
        let ids = DecisionIds::new().unwrap();
        let (one, two) = (ids.next(), ids.next());
        assert_ne!(one, two);
        let text = one.to_string();
        assert_eq!(text.as_bytes(), one.hexadecimal());
        assert_eq!(DecisionId::parse(&text), Some(one));
        for bad in ["", "+0000000000000000000000000000001", "zz", &text[1..]] {
            assert_eq!(DecisionId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn another_process_makes_other_ids() {
        assert_ne!(DecisionIds::new().unwrap().next(), DecisionIds::new().unwrap().next());
    }

    #[test]
    fn a_noisy_source_pushes_out_only_its_own() {
        let ids = DecisionIds::new().unwrap();
        let decisions = Decisions::default();
        let quiet = ids.next();
        decisions.keep([10, 0, 0, 1].into(), quiet, "quiet");
        let noisy: Vec<DecisionId> = (0..100_000).map(|_| ids.next()).collect();
        for id in &noisy {
            decisions.keep([10, 0, 0, 2].into(), *id, "noisy");
        }
        assert_eq!(decisions.find(*noisy.last().unwrap()).as_deref(), Some("noisy"));
        assert_eq!(decisions.find(noisy[0]), None);
        assert_eq!(decisions.held.lock().unwrap().lines.len(), PER_SOURCE + 1);
        assert_eq!(decisions.find(quiet).as_deref(), Some("quiet"));
    }

    #[test]
    fn the_whole_is_bounded() {
        let ids = DecisionIds::new().unwrap();
        let decisions = Decisions::default();
        for n in 0..50_000u32 {
            decisions.keep(std::net::Ipv4Addr::from(n).into(), ids.next(), "x");
        }
        let held = decisions.held.lock().unwrap();
        assert_eq!(held.lines.len(), TOTAL);
        assert!(held.by_source.len() <= TOTAL && held.order.len() <= 2 * TOTAL);
    }
}
