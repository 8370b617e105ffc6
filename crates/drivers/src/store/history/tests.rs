use std::sync::mpsc;

use model::time::WallTime;

use super::*;

fn entry(n: u64) -> HistoryEntry {
    HistoryEntry {
        at: WallTime(n),
        service: None,
        subject: "instance",
        text: format!("entry {n}"),
        actor: "test".into(),
        rollout: None,
    }
}

fn newest(history: &History, most: usize) -> Vec<u64> {
    let (sender, answer) = mpsc::channel();
    history.newest(most, Box::new(move |entries| sender.send(entries).unwrap()));
    answer.recv_timeout(Duration::from_secs(20)).unwrap().iter().map(|entry| entry.at_ms).collect()
}

/// Until the thread of a dropped `History` has let go of the file, the next one waits for it.
fn reopened(path: &Path) -> History {
    History::start(path.to_owned()).unwrap()
}

#[test]
fn entries_are_there_after_a_restart_newest_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.redb");
    let mut history = reopened(&path);
    assert_eq!(newest(&history, 5), [0; 0]);
    (0..10).for_each(|n| history.append(&entry(n)));
    assert_eq!(newest(&history, 3), [7, 8, 9]);
    drop(history);
    let mut history = reopened(&path);
    history.append(&entry(10));
    assert_eq!(newest(&history, 2), [9, 10]);
}

#[test]
fn only_the_newest_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let database = create(&folder.path().join("history.redb")).unwrap();
    let stored = |n| Entry {
        v: 1,
        at_ms: n,
        service: None,
        subject: String::new(),
        text: String::new(),
        actor: String::new(),
        rollout: None,
    };
    let all: Vec<Entry> = (0..ENTRIES_MAX + 100).map(stored).collect();
    insert(&database, &all).unwrap();
    let kept = read(&database, usize::MAX).unwrap();
    assert_eq!((kept.len() as u64, kept[0].at_ms), (ENTRIES_MAX, 100));
}

#[test]
fn a_damaged_file_is_set_aside_under_a_dated_name_and_history_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.redb");
    std::fs::write(&path, b"this is no database, but it is long enough to be looked at").unwrap();
    let mut history = reopened(&path);
    history.append(&entry(1));
    assert_eq!(newest(&history, 5), [1]);
    let aside = std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|file| {
            file.as_ref().unwrap().file_name().to_str().unwrap().starts_with("history.redb.damaged-")
        })
        .count();
    assert_eq!(aside, 1);
}

#[test]
fn a_value_with_a_flipped_byte_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let database = create(&folder.path().join("history.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(ENTRIES).unwrap().insert(0, b"\0\0\0\0{}".as_slice()).unwrap();
    transaction.commit().unwrap();
    assert!(read(&database, 5).unwrap().is_empty());
}

#[test]
fn a_place_that_cannot_be_written_costs_entries_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = reopened(&folder.path().join("not-there/history.redb"));
    history.append(&entry(1));
    assert_eq!(newest(&history, 5), [0; 0]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was set aside");
}
