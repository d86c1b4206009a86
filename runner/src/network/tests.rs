//! Connecting a container whose bridge others remove meanwhile.

use super::*;

type Seated = Result<(Seat, u32), NetworkError>;

/// Runs `work` in a thread with a network of its own, if this user may have one: with a runtime directory, a way to take seats there, and a
/// container that has none.
fn in_own_network(work: impl FnOnce(&Path, &dyn Fn() -> Seated, Attachment) + Send) {
    if testkit::privilege::root().is_none() {
        return;
    }
    let result = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            sys::ns::unshare_network().expect("a network of its own");
            let directory = tempfile::tempdir().unwrap();
            let (runtime, wanted) = (directory.path(), Connect::new("c0ffee"));
            let place = Place::enter(runtime).unwrap();
            let take = || bridge::take_seat(&place, runtime, &wanted, Vec::new());
            let namespace = namespace::begin(setting::has_ipv6().unwrap()).unwrap().finish().unwrap();
            work(runtime, &take, Attachment::new(namespace, None, Vec::new()));
        });
        thread.join()
    });
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn a_bridge_that_is_removed_before_its_cable_is_laid_is_made_again() {
    in_own_network(|runtime, take, mut attachment| {
        let (seat, bridge) = take().unwrap();
        Links::open().unwrap().remove(bridge).unwrap();
        attachment.plug_in(seat, bridge, take).unwrap();
        let all = Links::open().unwrap().all().unwrap();
        let cable = all.iter().find_map(|link| link.master).expect("a cable");
        assert!(all.iter().any(|link| link.index == cable), "{all:?}");
        assert_eq!(Directory::new(runtime, DEFAULT_NETWORK).living().unwrap().len(), 1);
        attachment.disconnect().unwrap();
        assert_eq!(Directory::new(runtime, DEFAULT_NETWORK).addresses().unwrap(), []);
    });
}

#[test]
fn what_fails_while_the_bridge_is_there_is_not_tried_again() {
    in_own_network(|_, take, mut attachment| {
        let (mut seat, bridge) = take().unwrap();
        seat.plug_in(bridge, &mut attachment.namespace).unwrap();
        // Its cable is there already.
        let error = attachment.plug_in(seat, bridge, || panic!("not again")).unwrap_err();
        assert!(error.to_string().contains("virtual cable"), "{error}");
    });
}
