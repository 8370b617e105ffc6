use std::collections::BTreeMap;

use wire::manifest::Manifest;

use super::*;

pub(crate) fn record(next_rollout: u64) -> Record {
    Record {
        v: 1,
        written_at_ms: 0,
        manifest: Manifest {
            state_dir: "/var/lib/handover".into(),
            admin_bind: "127.0.0.1:7979".parse().unwrap(),
            admin_bind_is_default: true,
            proxy_threads: 1,
            access_log: true,
            access_log_settings: Default::default(),
            log: Default::default(),
            instance_ports: (20_000, 29_999),
            listeners: BTreeMap::new(),
            routes: Vec::new(),
            services: BTreeMap::new(),
            fronted: Default::default(),
        },
        source: String::new(),
        path: String::new(),
        binary_origin: String::new(),
        environment: Vec::new(),
        table_generation: 0,
        next_rollout,
        services: BTreeMap::new(),
        stopping: None,
    }
}

fn layout() -> (tempfile::TempDir, Layout) {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path().join("state"), folder.path().join("run"));
    std::fs::create_dir_all(layout.record(0).parent().unwrap()).unwrap();
    (folder, layout)
}

fn loaded(layout: &Layout) -> (Option<u64>, usize) {
    let (_, loaded) = RecordFiles::open(layout).unwrap();
    (loaded.record.map(|record| record.next_rollout), loaded.damaged.len())
}

#[test]
fn the_newest_record_is_read_back_and_the_files_keep_their_size() {
    let (_folder, layout) = layout();
    assert_eq!(loaded(&layout), (None, 0));
    for n in 1..6 {
        // Opened anew each time, as a restarted agent does.
        let (mut files, _) = RecordFiles::open(&layout).unwrap();
        files.write(&record(n)).unwrap();
        assert_eq!(loaded(&layout), (Some(n), 0));
    }
    for slot in 0..2 {
        assert_eq!(std::fs::metadata(layout.record(slot)).unwrap().len(), SLOT_BYTES as u64);
    }
}

#[test]
fn whatever_a_crash_tears_the_former_record_is_there_and_the_damage_is_said() {
    let (_folder, layout) = layout();
    let (mut files, _) = RecordFiles::open(&layout).unwrap();
    files.write(&record(1)).unwrap(); // a
    files.write(&record(2)).unwrap(); // b
    let whole = std::fs::read(layout.record(1)).unwrap();
    for torn_at in [0, 9, 30, 200] {
        let mut torn = whole.clone();
        torn[torn_at..].fill(0x55);
        std::fs::write(layout.record(1), &torn).unwrap();
        assert_eq!(loaded(&layout), (Some(1), 1), "torn at {torn_at}");
    }
    // The damaged file is the next to be written, never the whole one.
    let (mut files, _) = RecordFiles::open(&layout).unwrap();
    files.write(&record(3)).unwrap();
    assert_eq!(loaded(&layout), (Some(3), 0));
}

#[test]
fn a_record_too_large_is_refused_and_the_former_one_stays() {
    let (_folder, layout) = layout();
    let (mut files, _) = RecordFiles::open(&layout).unwrap();
    files.write(&record(1)).unwrap();
    let mut large = record(2);
    large.source = "x".repeat(SLOT_BYTES);
    assert!(files.write(&large).unwrap_err().to_string().contains("a slot holds"));
    assert_eq!(loaded(&layout), (Some(1), 0));
    files.write(&record(3)).unwrap();
    assert_eq!(loaded(&layout), (Some(3), 0));
}

#[test]
fn a_record_of_a_newer_version_is_neither_used_nor_touched() {
    let (_folder, layout) = layout();
    let body = b"{\"v\":9}";
    let length = u32::try_from(body.len()).unwrap();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&1_u64.to_be_bytes());
    hasher.update(&length.to_be_bytes());
    hasher.update(body);
    let mut bytes = b"HOREC001".to_vec();
    bytes.extend_from_slice(&1_u64.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&hasher.finalize().to_be_bytes());
    bytes.extend_from_slice(body);
    bytes.resize(SLOT_BYTES, 0);
    std::fs::write(layout.record(0), &bytes).unwrap();
    assert!(matches!(RecordFiles::open(&layout), Err(OpenError::Newer { .. })));
    assert_eq!(std::fs::read(layout.record(0)).unwrap(), bytes);
}
