//! What holds for every subnet and every set of taken addresses.

use proptest::prelude::*;

use super::*;

fn subnet(text: &str) -> Subnet4 {
    text.parse().unwrap()
}

#[test]
fn subnets_are_read_and_written() {
    assert_eq!(subnet("10.1.2.3/22").to_string(), "10.1.0.0/22");
    assert_eq!(subnet("10.1.0.0/22").gateway().to_string(), "10.1.0.1");
    assert_eq!(subnet("10.1.0.0/22").mask().to_string(), "255.255.252.0");
    assert_eq!(subnet("0.0.0.0/0").mask().to_string(), "0.0.0.0");
    for bad in ["10.1.0.0", "10.1.0.0/33", "x/1", "10.1.0.0/-1", ""] {
        assert!(bad.parse::<Subnet4>().is_err(), "{bad}");
    }
}

#[test]
fn addresses_go_round() {
    let small = subnet("10.0.0.0/29");
    let mut taken = BTreeSet::new();
    let mut last = None;
    for expected in 2..=6 {
        last = small.next_free(&taken, last);
        assert_eq!(last.unwrap().octets()[3], expected);
        taken.extend(last);
    }
    assert_eq!(small.next_free(&taken, last), None, "full");
    taken.remove(&Ipv4Addr::new(10, 0, 0, 3));
    assert_eq!(small.next_free(&taken, last), Some(Ipv4Addr::new(10, 0, 0, 3)));
    let freed = BTreeSet::new();
    assert_eq!(small.next_free(&freed, Some(Ipv4Addr::new(10, 0, 0, 4))), Some(Ipv4Addr::new(10, 0, 0, 5)));
}

#[test]
fn local_subnets_are_unique_local() {
    let subnet = Subnet6::unique_local([1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(subnet.to_string(), "fd01:203:405:607::/64");
    assert_eq!(subnet.gateway().to_string(), "fd01:203:405:607::1");
    let beside = subnet.beside(Ipv4Addr::new(10, 176, 0, 2));
    assert_eq!(beside.to_string(), "fd01:203:405:607::ab0:2");
    assert!(subnet.is_for_containers(beside) && !subnet.is_for_containers(subnet.gateway()));
    assert!(!subnet.contains(Ipv6Addr::LOCALHOST));
}

#[test]
fn card_addresses_are_of_one_card() {
    let address: MacAddress = "02:42:AC-11:00:02".parse().unwrap();
    assert_eq!(address.to_string(), "02:42:ac:11:00:02");
    assert_eq!(MacAddress::beside(Ipv4Addr::new(10, 176, 0, 2)).to_string(), "02:4c:0a:b0:00:02");
    for bad in ["", "02", "01:00:00:00:00:00", "02:42:ac:11:00:02:03", "2:42:ac:11:0:2", "00:00:00:00:00:00"]
    {
        assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
    }
}

proptest! {
    /// Whatever is taken: the next address is free, a container's, and exists if any is left.
    #[test]
    fn the_next_address_is_free(
        base in any::<u32>(),
        length in 20_u8..=31,
        hosts in proptest::collection::btree_set(0_u32..4096, 0..40),
        last in proptest::option::of(any::<u32>()),
    ) {
        let subnet = Subnet4::new(Ipv4Addr::from_bits(base), length);
        let taken: BTreeSet<Ipv4Addr> = hosts
            .iter()
            .map(|host| Ipv4Addr::from_bits(subnet.first().to_bits() | (host & !subnet.mask().to_bits())))
            .collect();
        let room = (0..=!subnet.mask().to_bits())
            .map(|host| Ipv4Addr::from_bits(subnet.first().to_bits() | host))
            .any(|address| subnet.is_for_containers(address) && !taken.contains(&address));
        match subnet.next_free(&taken, last.map(Ipv4Addr::from_bits)) {
            Some(found) => prop_assert!(subnet.is_for_containers(found) && !taken.contains(&found)),
            None => prop_assert!(!room),
        }
    }

    /// Whatever routes a machine has, the subnets offered are apart from them and from each other.
    #[test]
    fn choices_are_apart(start in any::<u32>(), used in proptest::collection::vec((any::<u32>(), 8_u8..=32), 0..8)) {
        let near = |bits: u32| Ipv4Addr::from_bits((bits & 0x000f_ffff) | 0x0ab0_0000);
        let used: Vec<Subnet4> = used.into_iter().map(|(bits, length)| Subnet4::new(near(bits), length)).collect();
        let offered: Vec<Subnet4> = Subnet4::choices(start, &used).take(5).collect();
        for (index, one) in offered.iter().enumerate() {
            prop_assert!(used.iter().all(|other| !one.overlaps(*other)));
            prop_assert!(offered[..index].iter().all(|other| !one.overlaps(*other)));
        }
    }
}
