//! What is in a volume stays until somebody removes it, whatever else goes.

use super::*;
use crate::container::{ContainerRecord, NewContainer};
use crate::gc::Policy;
use crate::test_support::TestStore;

const NEW: NewVolume<'_> = NewVolume { name: "data", anonymous: false, document: "{}" };

fn anonymous(name: &str) -> NewVolume<'_> {
    NewVolume { name, anonymous: true, document: "{}" }
}

/// A container that shows these volumes.
fn container(test: &TestStore, id: &str, volumes: &[&str]) -> ContainerRecord {
    let dir = test.store.create_container_dir(id).unwrap();
    let image = test.store.put_blob(&test.lease, b"image").unwrap().digest;
    let volumes: Vec<String> = volumes.iter().map(|name| (*name).to_owned()).collect();
    let new = NewContainer {
        id,
        name: id,
        image: &image,
        target: &image,
        parent: None,
        volumes: &volumes,
        images: &[],
        networks: &[],
    };
    test.store.begin_container(&new, &dir).unwrap().keep()
}

fn remove(test: &TestStore, record: &ContainerRecord, volumes: bool) {
    let dir = test.store.wait_for_container(&record.id).unwrap();
    test.store.remove_container(record, dir, volumes).unwrap();
}

fn write(test: &TestStore, volume: &Volume, file: &str) {
    std::fs::write(test.store.volume_path(volume).join(file), file).unwrap();
}

#[test]
fn a_volume_outlives_containers_and_collections() {
    let mut test = TestStore::new();
    let (volume, is_new) = test.store.create_volume(&NEW).unwrap();
    assert!(is_new);
    assert_eq!(test.store.create_volume(&NEW).unwrap(), (volume.clone(), false));
    write(&test, &volume, "kept");
    let user = container(&test, "user", &["data"]);
    let refused = test.store.remove_volume("data").unwrap_err();
    assert_eq!(refused.to_string(), "volume data is in use by container user");
    remove(&test, &user, true);
    test.release();
    test.store.gc(Policy::DROP_CACHE).unwrap();
    let store = test.reopened();
    assert_eq!(store.volumes().unwrap(), std::slice::from_ref(&volume));
    assert!(store.volume_path(&volume).join("kept").exists());
    assert!(store.check().unwrap().is_clean(), "{:?}", store.check().unwrap());
    let usage = store.usage().unwrap();
    assert_eq!((usage.volumes.total, usage.volumes.active), (1, 0));
    assert!(usage.volumes.reclaimable >= 4096);
    store.remove_volume("data").unwrap();
    assert!(matches!(store.remove_volume("data"), Err(StoreError::NoSuchVolume { .. })));
    drop(store);
    test.store.gc(Policy::DROP_CACHE).unwrap();
    test.assert_nothing_left();
}

#[test]
fn an_anonymous_volume_goes_with_its_last_container() {
    let test = TestStore::new();
    let (volume, _) = test.store.create_volume(&anonymous("a")).unwrap();
    let (first, second) = (container(&test, "first", &["a"]), container(&test, "second", &["a"]));
    remove(&test, &first, true);
    assert!(test.store.volume_path(&volume).exists());
    remove(&test, &second, true);
    assert_eq!(test.store.volumes().unwrap(), []);
    assert!(!test.store.volume_path(&volume).exists());
    test.store.create_volume(&anonymous("b")).unwrap();
    let third = container(&test, "third", &["b"]);
    remove(&test, &third, false);
    assert_eq!(test.store.volumes().unwrap().len(), 1);
}

#[test]
fn a_new_volume_has_what_the_image_has() {
    for test in TestStore::each_driver() {
        let active = test.store.prepare(&test.lease, None).unwrap();
        let place = active.layer_dir().join("srv/files");
        std::fs::create_dir_all(place.join("inner")).unwrap();
        std::fs::write(place.join("inner/file"), "x").unwrap();
        std::fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
        let id = active.commit(crate::snapshot::CommitInfo::default()).unwrap();
        let tree = Tree::overlay(test.store.view_dirs(id).unwrap()).unwrap();
        let fill = |name: &str, path: &str| {
            let (volume, _) = test.store.create_volume(&anonymous(name)).unwrap();
            let held = test.store.hold_volumes(&[name.to_owned()]).unwrap();
            test.store.fill_volume(&volume, &held, &tree, path, &CancelToken::new()).unwrap();
            test.store.volume_path(&volume)
        };
        let filled = fill("new", "/srv/files");
        assert_eq!(std::fs::read_to_string(filled.join("inner/file")).unwrap(), "x");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&filled).unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o1777);
        // Not again, and nothing where the image has nothing.
        std::fs::remove_dir_all(filled.join("inner")).unwrap();
        std::fs::write(filled.join("own"), "x").unwrap();
        assert!(!fill("new", "/srv/files").join("inner").exists());
        assert_eq!(std::fs::read_dir(fill("none", "/nowhere")).unwrap().count(), 0);
        // One that a container shows already stays the directory that it shows.
        let (shown, _) = test.store.create_volume(&anonymous("shown")).unwrap();
        container(&test, "user", &["shown"]);
        let open = std::fs::File::open(test.store.volume_path(&shown)).unwrap();
        let now = std::fs::metadata(fill("shown", "/srv/files")).unwrap();
        assert_eq!(
            std::os::unix::fs::MetadataExt::ino(&open.metadata().unwrap()),
            std::os::unix::fs::MetadataExt::ino(&now)
        );
    }
}

#[test]
fn a_lost_database_loses_no_volume() {
    let test = TestStore::new();
    let (volume, _) = test.store.create_volume(&NEW).unwrap();
    write(&test, &volume, "kept");
    test.store.db().write("lose a row", |c| volumes::delete(c, "data")).unwrap();
    test.store.gc(Policy::DROP_CACHE).unwrap();
    assert!(test.store.volume_path(&volume).join("kept").exists());
    let (other, _) = test.store.create_volume(&NEW).unwrap();
    assert_ne!(other.directory, volume.directory);
    assert_eq!(test.store.check().unwrap().unlisted_volumes.len(), 1);
    let adopted = test.store.adopt_volumes().unwrap();
    assert_eq!(adopted, [format!("data-{}", volume.directory)]);
    let again = test.store.volume(&adopted[0]).unwrap().unwrap();
    assert!(test.store.volume_path(&again).join("kept").exists());
    assert_eq!(test.store.adopt_volumes().unwrap(), [] as [String; 0]);
}

#[test]
fn what_was_not_finished_is_garbage() {
    let test = TestStore::new();
    let directory = test.store.layout().volume("0123").top;
    std::fs::create_dir_all(directory.join("data")).unwrap();
    assert_eq!(test.store.check().unwrap().without_row, std::slice::from_ref(&directory));
    test.store.gc(Policy::KEEP_CACHE).unwrap();
    assert!(!directory.exists());
}

#[test]
fn a_volume_that_is_held_is_not_removed() {
    let test = TestStore::new();
    test.store.create_volume(&NEW).unwrap();
    let held = test.store.hold_volumes(&["data".to_owned(), "data".to_owned()]).unwrap();
    assert_eq!(held.volumes().count(), 1);
    assert!(matches!(test.store.remove_volume("data"), Err(StoreError::VolumeInUse { .. })));
    drop(held);
    test.store.remove_volume("data").unwrap();
    assert!(test.store.hold_volumes(&["data".to_owned()]).is_err());
    let dir = test.store.create_container_dir("late").unwrap();
    let image = test.store.put_blob(&test.lease, b"image").unwrap().digest;
    let gone = ["data".to_owned()];
    let new = NewContainer {
        id: "late",
        name: "late",
        image: &image,
        target: &image,
        parent: None,
        volumes: &gone,
        images: &[],
        networks: &[],
    };
    assert!(matches!(test.store.begin_container(&new, &dir), Err(StoreError::NoSuchVolume { .. })));
}
