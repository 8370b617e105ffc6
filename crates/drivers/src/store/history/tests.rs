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

fn ask(history: &History, query: HistoryQuery) -> Vec<Numbered> {
    let (sender, answer) = mpsc::channel();
    history.reader().page(query, Box::new(move |entries| sender.send(entries).unwrap()));
    answer.recv_timeout(Duration::from_secs(20)).unwrap()
}

fn newest(history: &History, limit: usize) -> Vec<u64> {
    let entries = ask(history, HistoryQuery { limit, ..HistoryQuery::default() });
    entries.iter().map(|(_, entry)| entry.at_ms).collect()
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
    let oldest = HistoryQuery { after_sequence: Some(0), limit: 1, ..HistoryQuery::default() };
    assert_eq!(page(&database, &oldest).unwrap()[0].1.at_ms, 100);
    let kept = table(&database, ENTRIES).unwrap().unwrap().len().unwrap();
    assert_eq!(kept, ENTRIES_MAX);
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
    let all = HistoryQuery { limit: 5, ..HistoryQuery::default() };
    assert!(page(&database, &all).unwrap().is_empty());
}

#[test]
fn a_place_that_cannot_be_written_costs_entries_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = reopened(&folder.path().join("not-there/history.redb"));
    history.append(&entry(1));
    assert_eq!(newest(&history, 5), [0; 0]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was set aside");
}

fn rollout_entry(id: u64) -> HistoryEntry {
    let rollout: wire::record::RolloutRecord = serde_json::from_value(serde_json::json!({
        "id": id, "kind": "deploy", "to": "1.1", "from": "1.0", "phase": "done", "actor": "test",
        "started_at_ms": 1, "receipt": wire::record::Receipt::default()
    }))
    .unwrap();
    HistoryEntry {
        service: Some("shop".parse().unwrap()),
        subject: "rollout",
        rollout: Some(Box::new(rollout)),
        ..entry(id)
    }
}

#[test]
fn who_follows_gets_every_entry_once_also_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.redb");
    let mut history = reopened(&path);
    (0..5).for_each(|n| history.append(&entry(n)));
    let after = |after| HistoryQuery { after_sequence: Some(after), limit: 2, ..HistoryQuery::default() };
    let page = ask(&history, after(0));
    assert_eq!(
        page.iter().map(|(number, entry)| (*number, entry.at_ms)).collect::<Vec<_>>(),
        [(1, 0), (2, 1)]
    );
    assert_eq!(*history.reader().newest().borrow(), 5);
    drop(history);
    let mut history = reopened(&path);
    assert_eq!(ask(&history, after(4)).len(), 1);
    assert!(ask(&history, after(5)).is_empty());
    assert_eq!(*history.reader().newest().borrow(), 5);
    history.append(&entry(5));
    assert_eq!(ask(&history, after(5))[0].0, 6);
    let older = HistoryQuery { before: Some(4), limit: 2, ..HistoryQuery::default() };
    assert_eq!(ask(&history, older).iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(ask(&history, after(700))[0].0, 1, "that number is from a file that was lost");
}

#[test]
fn a_rollout_is_found_by_its_id_and_outlives_the_events_of_a_bad_day() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = reopened(&folder.path().join("history.redb"));
    history.append(&rollout_entry(7));
    history.append(&rollout_entry(8));
    for _ in 0..11 {
        (0..1_000).for_each(|n| history.append(&entry(n)));
        newest(&history, 1); // the queue is bounded
    }
    let (sender, answer) = mpsc::channel();
    history.reader().rollout(7, Box::new(move |found| sender.send(found).unwrap()));
    let found = answer.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(found[0].1.rollout.as_ref().unwrap().id, 7);
    let of = |service: &str| HistoryQuery {
        service: Some(service.into()),
        subject: Some("rollout".into()),
        limit: 9,
        ..HistoryQuery::default()
    };
    let ids: Vec<u64> =
        ask(&history, of("shop")).iter().map(|(_, e)| e.rollout.as_ref().unwrap().id).collect();
    assert_eq!(ids, [7, 8]);
    assert!(ask(&history, of("web")).is_empty());
}
