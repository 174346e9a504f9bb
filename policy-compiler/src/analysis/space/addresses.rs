//! The cells that networks cut the address space into, one address for each.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// See the module.
#[derive(Debug)]
pub(super) struct Cells;

impl Cells {
    /// One address for each set of networks that some address is in exactly, of both families. `taken` addresses are
    /// passed over: they are somebody's.
    pub(super) fn of(nets: impl Iterator<Item = IpNet>, taken: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
        let nets: Vec<IpNet> = nets.collect::<BTreeSet<_>>().into_iter().collect();
        let mut starts = BTreeSet::from([number(START_V4), number(START_V6)]);
        for net in &nets {
            starts.insert(number(net.network()));
            starts.insert((number(net.broadcast()).0, number(net.broadcast()).1.saturating_add(1)));
        }
        // Networks nest or are disjoint, so between two bounds nothing changes.
        let mut seen: BTreeSet<(bool, Vec<usize>)> = BTreeSet::new();
        let mut cells = Vec::new();
        let starts: Vec<(bool, u128)> = starts.into_iter().collect();
        for (at, (v6, start)) in starts.iter().enumerate() {
            let end = match starts.get(at + 1) {
                Some((next, end)) if next == v6 => *end,
                _ => u128::MAX,
            };
            // The middle of a range reads better than its first address, which often is the network itself.
            let offsets = [1, 7, 0, 2, 3, 4, 5, 6].into_iter().chain(8..TRIED);
            let candidates =
                offsets.filter_map(|offset| start.checked_add(offset)).filter(|candidate| *candidate < end);
            let Some(address) = candidates.filter_map(|one| address(*v6, one)).find(|one| !taken(*one)) else {
                continue;
            };
            let inside: Vec<usize> =
                nets.iter().enumerate().filter(|(_, net)| net.contains(&address)).map(|(at, _)| at).collect();
            if seen.insert((*v6, inside)) {
                cells.push(address);
            }
        }
        cells
    }
}

/// Family and number of an address, in an order of addresses.
fn number(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(address) => (false, u128::from(address.to_bits())),
        IpAddr::V6(address) => (true, address.to_bits()),
    }
}

fn address(v6: bool, number: u128) -> Option<IpAddr> {
    if v6 {
        let address = Ipv6Addr::from_bits(number);
        // A mapped address is an IPv4 one.
        address.to_ipv4_mapped().is_none().then_some(IpAddr::V6(address))
    } else {
        u32::try_from(number).ok().map(|number| IpAddr::V4(Ipv4Addr::from_bits(number)))
    }
}

/// Where the search begins in each family: `198.18.0.0` and `2001:db8::` are nobody's.
const START_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(0, 0, 0, 0));
const START_V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
/// Addresses of a cell that are tried before it counts as full of registered ones.
const TRIED: u128 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_networks_has_its_address() {
        let nets: Vec<IpNet> = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "0.0.0.0/0", "fd00::/8", "203.0.113.0/24"]
            .map(|net| net.parse().unwrap())
            .into();
        let cells = Cells::of(nets.iter().copied(), |address| address == "10.1.0.1".parse::<IpAddr>().unwrap());
        let of = |address: &IpAddr| nets.iter().filter(|net| net.contains(address)).count();
        let mut depths: Vec<usize> = cells.iter().map(of).collect();
        depths.sort_unstable();
        assert_eq!(depths, [0, 1, 1, 2, 2, 3, 4], "{cells:?}");
        assert!(!cells.contains(&"10.1.0.1".parse().unwrap()));
    }
}
