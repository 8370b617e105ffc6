//! IP networks (`10.0.0.0/8`, `::1/128`), and whether an address is in one of several.
//!
//! Networks are merged into ranges once, so that a look-up is a binary search however many there are. An IPv4
//! address inside IPv6 (`::ffff:10.0.0.1`) is that IPv4 address, so `::/0` holds no IPv4 address.

use std::net::IpAddr;
use std::str::FromStr;

/// One network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    /// No address, or something behind it that is no length.
    #[error("it is not an IP address with the length of a prefix, like 10.0.0.0/8")]
    Shape,
    /// More bits than the address has.
    #[error("its prefix is longer than the address")]
    Prefix,
    /// Bits behind the prefix are set: a typing error, or an address that was meant alone.
    #[error("it has bits behind its prefix; write /32 or /128 for one address")]
    HostBits,
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_unreadable| BadNetwork::Shape)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().map_err(|_unreadable| BadNetwork::Shape)?
            }
            Some(_) => return Err(BadNetwork::Shape),
        };
        if prefix > longest {
            return Err(BadNetwork::Prefix);
        }
        let network = Self { address, prefix };
        let (first, _) = network.range();
        if first != number(address) {
            return Err(BadNetwork::HostBits);
        }
        Ok(network)
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl Network {
    /// First and last address.
    fn range(self) -> (u128, u128) {
        let bits: u32 = if self.address.is_ipv4() { 32 } else { 128 };
        let all = u128::MAX >> (128 - bits);
        let rest = all.checked_shr(u32::from(self.prefix)).unwrap_or(0);
        let first = number(self.address) & !rest;
        (first, first | rest)
    }
}

/// Several networks, ready for look-ups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let mut all = Self::default();
        for network in networks {
            let ranges = if network.address.is_ipv4() { &mut all.v4 } else { &mut all.v6 };
            ranges.push(network.range());
        }
        all.v4 = merged(all.v4);
        all.v6 = merged(all.v6);
        all
    }
}

/// Sorted, and those that overlap as one.
fn merged(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

impl Networks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether `address` is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let ranges = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let number = number(address);
        let after = ranges.partition_point(|(first, _)| *first <= number);
        after > 0 && number <= ranges[after - 1].1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        texts.iter().map(|text| text.parse::<Network>().unwrap()).collect()
    }

    fn has(networks: &Networks, address: &str) -> bool {
        networks.contains(address.parse().unwrap())
    }

    #[test]
    fn addresses_are_found_at_both_edges_and_not_beyond() {
        let some = networks(&["10.0.0.0/8", "192.168.1.7", "fd00::/8", "::1/128"]);
        for inside in
            ["10.0.0.0", "10.255.255.255", "192.168.1.7", "fd00::", "fdff::1", "::1", "::ffff:10.2.3.4"]
        {
            assert!(has(&some, inside), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.168.1.6", "192.168.1.8", "fe00::", "::2", "::"] {
            assert!(!has(&some, outside), "{outside}");
        }
        assert!(!has(&Networks::default(), "10.0.0.1") && Networks::default().is_empty());
    }

    #[test]
    fn everything_is_a_network_of_its_family() {
        let v4 = networks(&["0.0.0.0/0"]);
        assert!(has(&v4, "255.255.255.255") && has(&v4, "0.0.0.0") && !has(&v4, "::1"));
        let v6 = networks(&["::/0"]);
        assert!(has(&v6, "ffff::") && !has(&v6, "1.2.3.4"));
    }

    #[test]
    fn what_is_no_network_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", BadNetwork::Shape),
            ("10.0.0.0/", BadNetwork::Shape),
            ("10.0.0.0/x", BadNetwork::Shape),
            ("10.0.0.0/+8", BadNetwork::Shape),
            ("10.0.0/8", BadNetwork::Shape),
            ("host/8", BadNetwork::Shape),
            ("10.0.0.0/33", BadNetwork::Prefix),
            ("::/129", BadNetwork::Prefix),
            ("10.0.0.1/8", BadNetwork::HostBits),
            ("::1/64", BadNetwork::HostBits),
        ] {
            assert_eq!(text.parse::<Network>(), Err(reason), "{text}");
        }
        assert_eq!("10.0.0.0/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
    }

    proptest! {
        #[test]
        fn merging_changes_no_answer(
            some in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..12),
            asked in any::<u32>(),
            near in 0_usize..12,
        ) {
            let each: Vec<Network> = some
                .iter()
                .map(|(bits, prefix)| {
                    let network = Network { address: IpAddr::V4((*bits).into()), prefix: *prefix };
                    let first = u32::try_from(network.range().0).unwrap();
                    Network { address: IpAddr::V4(first.into()), prefix: *prefix }
                })
                .collect();
            let all: Networks = each.iter().copied().collect();
            let near = each.get(near).map_or(asked, |one| u32::try_from(one.range().1).unwrap().wrapping_add(asked % 3));
            for address in [asked, near].map(|bits| IpAddr::V4(bits.into())) {
                let expected = each.iter().any(|one| {
                    let (first, last) = one.range();
                    (first..=last).contains(&number(address))
                });
                prop_assert_eq!(all.contains(address), expected);
            }
        }
    }
}
