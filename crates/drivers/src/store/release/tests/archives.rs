//! Archives: friendly ones, and every hostile one there is a name for.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use rawzip::path::EntryPath;
use rawzip::{CompressionMethod, ZipArchiveWriter};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tar::{EntryType, Header};

use super::*;

const SMALL: Limits = Limits { bytes: 1 << 20, entries: 50 };
const PROGRAM: &str = "#!/bin/sh\n";

/// An entry as an archive may have it.
#[derive(Debug, Clone)]
struct Packed {
    name: Vec<u8>,
    /// As in the head of a tar.
    kind: u8,
    mode: u32,
    content: Vec<u8>,
    /// Where links lead.
    link: Vec<u8>,
}

fn packed(kind: u8, name: &str, mode: u32, content: &[u8], link: &str) -> Packed {
    Packed { name: name.into(), kind, mode, content: content.to_owned(), link: link.into() }
}

fn file(name: &str, content: &str) -> Packed {
    packed(b'0', name, 0o644, content.as_bytes(), "")
}

fn program(name: &str) -> Packed {
    packed(b'0', name, 0o755, PROGRAM.as_bytes(), "")
}

fn directory(name: &str) -> Packed {
    packed(b'5', name, 0o755, b"", "")
}

fn link(name: &str, to: &str) -> Packed {
    packed(b'2', name, 0o777, b"", to)
}

/// Byte for byte what the entries say; `tar` itself would refuse to write most of these.
fn tar_of(entries: &[Packed]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        out.extend(tar_entry(entry, entry.content.len() as u64));
    }
    out.extend([0; 1024]);
    out
}

fn tar_entry(entry: &Packed, size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    if entry.name.len() > 100 {
        let long = Packed {
            kind: b'L',
            name: b"././@LongLink".to_vec(),
            content: entry.name.clone(),
            ..file("", "")
        };
        out.extend(tar_entry(&long, long.content.len() as u64));
    }
    let mut header = Header::new_gnu();
    let old = header.as_old_mut();
    let (name, to) = (entry.name.len().min(100), entry.link.len().min(100));
    old.name[..name].copy_from_slice(&entry.name[..name]);
    old.linkname[..to].copy_from_slice(&entry.link[..to]);
    header.set_entry_type(EntryType::new(entry.kind));
    header.set_mode(entry.mode);
    header.set_size(size);
    header.set_cksum();
    out.extend(header.as_bytes());
    out.extend(&entry.content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    compress_to_vec(content, CompressionLevel::Fastest)
}

fn zip_of(entries: &[Packed]) -> Vec<u8> {
    let mut archive = ZipArchiveWriter::new(Vec::new());
    for entry in entries {
        let (kind, content) = match entry.kind {
            b'5' => (0o040_000, &entry.content),
            b'2' => (0o120_000, &entry.link),
            b'6' => (0o010_000, &entry.content),
            _ => (0o100_000, &entry.content),
        };
        let file = archive.new_file(EntryPath::verbatim(entry.name.as_slice()));
        let file = file.unix_permissions(kind | entry.mode).compression_method(CompressionMethod::DEFLATE);
        let (mut writer, config) = file.start().unwrap();
        let encoder = flate2::write::DeflateEncoder::new(&mut writer, Compression::fast());
        let mut data = config.wrap(encoder);
        data.write_all(content).unwrap();
        let (encoder, descriptor) = data.finish().unwrap();
        encoder.finish().unwrap();
        writer.finish(descriptor).unwrap();
    }
    archive.finish().unwrap()
}

impl Scene {
    /// Writes an archive beside the state directory.
    fn archive(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn take(&self, source: &Path, release: &str, limits: &Limits) -> Result<Prepared, Refused> {
        let request = PrepareRelease { source: source.to_owned(), ..self.request(release, None) };
        prepare_within(&self.releases, &request, limits)
    }

    /// Packs the entries in every way, and says what became of each.
    fn take_all(&self, entries: &[Packed]) -> Vec<(&'static str, Result<Prepared, Refused>)> {
        let tar = tar_of(entries);
        let all = [("a.tar.gz", gzip(&tar)), ("a.tar.zst", zstd(&tar)), ("a.zip", zip_of(entries))];
        all.map(|(name, bytes)| (name, self.take(&self.archive(name, &bytes), "1", &SMALL))).into()
    }

    #[track_caller]
    fn refuses(&self, entries: &[Packed], said: &str) {
        for (name, taken) in self.take_all(entries) {
            let error = taken.expect_err(name).to_string();
            assert!(error.contains(said), "{name}: {error}");
            assert_eq!(self.entries(), [""; 0], "{name}");
        }
    }
}

#[test]
fn every_kind_of_archive_gives_the_same_release_as_the_directory_it_was_packed_from() {
    let scene = Scene::new();
    let long = format!("lib/{}/file", "long-".repeat(30));
    scene.write(&long, "deep");
    let from_directory = scene.prepare("1", None).unwrap();
    let entries = [
        directory("./"),
        program("./shop"),
        directory("./lib/"),
        file("./lib/data", "data"),
        link("./lib/link", "../shop"),
        file(&format!("./{long}"), "deep"),
    ];
    for (name, taken) in scene.take_all(&entries) {
        let taken = taken.unwrap();
        assert_eq!(taken.hash, from_directory.hash, "{name}");
        assert!(folder::is_executable(&taken.directory.join("shop")));
        assert_eq!(std::fs::read_to_string(taken.directory.join(&long)).unwrap(), "deep");
    }
    assert_eq!(scene.entries(), ["1"]);
}

#[test]
fn the_same_version_again_is_compared_by_its_tree_however_it_is_packed() {
    let scene = Scene::new();
    let first = scene.prepare("1.4.1", None).unwrap();
    let entries = [program("shop"), file("lib/data", "data"), link("lib/link", "../shop")];
    let again = |name: &str, release: &str, bytes: Vec<u8>| {
        let source = scene.archive(name, &bytes);
        prepare(&scene.releases, &PrepareRelease { source, ..scene.request(release, Some(&first.hash)) })
    };
    assert_eq!(again("a.zip", "1.4.1", zip_of(&entries)).unwrap(), first);
    assert_eq!(again("a.tgz", "1.4.1+c2", gzip(&tar_of(&entries))).unwrap().hash, first.hash);
    let other = [program("shop"), file("lib/data", "other"), link("lib/link", "../shop")];
    for release in ["1.4.1", "1.4.1+c3"] {
        let refused = again("b.tgz", release, gzip(&tar_of(&other))).unwrap_err();
        assert!(matches!(refused, Refused::OtherContent { .. }), "{refused}");
    }
    assert_eq!(scene.entries(), ["1.4.1", "1.4.1+c2"]);
}

#[test]
fn one_directory_around_everything_is_taken_off_where_the_program_is_only_inside_it() {
    let scene = Scene::new();
    let around = [directory("shop-1/"), program("shop-1/shop"), file("shop-1/lib/data", "data")];
    let plain = [program("shop"), file("lib/data", "data")];
    let first = scene.take(&scene.archive("plain.zip", &zip_of(&plain)), "0", &SMALL).unwrap();
    for (name, taken) in scene.take_all(&around) {
        assert_eq!(taken.unwrap().hash, first.hash, "{name}");
    }
    // Where the command says so it stays.
    let source = scene.archive("a.tgz", &gzip(&tar_of(&around)));
    let whole = PrepareRelease { source, program: "./shop-1/shop".into(), ..scene.request("2", None) };
    let whole = prepare(&scene.releases, &whole).unwrap();
    assert!(whole.directory.join("shop-1/shop").is_file());
    // A link that leads out once the directory is off.
    let mut leads_out = around.to_vec();
    leads_out.push(link("shop-1/lib/out", "../../shop-1/shop"));
    let refused = scene.take(&scene.archive("b.tgz", &gzip(&tar_of(&leads_out))), "3", &SMALL).unwrap_err();
    assert!(refused.to_string().contains("stay inside"), "{refused}");
    // Where the program is none of the release, its arguments are what is looked for.
    let source = scene.archive("node.tgz", &gzip(&tar_of(&[file("package/server.js", "words")])));
    let words = vec!["--flag".into(), "server.js".into()];
    let node =
        PrepareRelease { source, program: "node".into(), arguments: words, ..scene.request("node", None) };
    assert!(prepare(&scene.releases, &node).unwrap().directory.join("server.js").is_file());
    // Two directories: nothing is guessed, but it is said where the program is.
    let two = [program("shop-1/shop"), file("docs/read", "")];
    let refused = scene.take(&scene.archive("c.tgz", &gzip(&tar_of(&two))), "4", &SMALL).unwrap_err();
    assert!(refused.to_string().contains("there is `shop-1/shop`"), "{refused}");
    assert_eq!(scene.entries(), ["0", "1", "2", "node"]);
}

#[test]
fn another_command_for_the_same_version_keeps_the_choice_made_for_it() {
    let scene = Scene::new();
    let around = [program("shop-1/shop"), program("shop-1/other")];
    let source = scene.archive("a.tgz", &gzip(&tar_of(&around)));
    let first = scene.take(&source, "1", &SMALL).unwrap();
    let request = scene.request("1+c2", Some(&first.hash));
    let bare = PrepareRelease { source, program: "sh".into(), ..request };
    assert_eq!(prepare(&scene.releases, &bare).unwrap().hash, first.hash);
}

#[test]
fn a_single_program_becomes_a_release_under_the_name_the_command_has_for_it() {
    let scene = Scene::new();
    let source = scene.archive("shop-1.4.1-linux", PROGRAM.as_bytes());
    let taken = scene.take(&source, "1", &SMALL).unwrap();
    assert!(folder::is_executable(&taken.directory.join("shop")));
    let request = PrepareRelease { source, program: "/usr/bin/env".into(), ..scene.request("2", None) };
    let taken = prepare(&scene.releases, &request).unwrap();
    assert!(folder::is_executable(&taken.directory.join("shop-1.4.1-linux")));
    let large = scene.archive("large", &[PROGRAM.as_bytes(), &vec![0; 2 << 20]].concat());
    assert!(matches!(scene.take(&large, "3", &SMALL), Err(Refused::TooLarge(_))));
    assert_eq!(scene.entries(), ["1", "2"]);
}

#[test]
fn names_that_lead_out_are_refused() {
    let scene = Scene::new();
    scene.refuses(&[program("shop"), file("../evil", "x")], "`../evil`, whose name leads upwards");
    scene.refuses(&[program("shop"), file("lib/../../evil", "x")], "leads upwards");
    scene.refuses(&[program("shop"), file("/tmp/evil", "x")], "`/tmp/evil`, whose name is absolute");
    scene.refuses(&[program("shop"), directory("../evil/")], "leads upwards");
    scene.refuses(&[program("shop"), link("../evil", "shop")], "leads upwards");
    scene.refuses(&[program("shop"), file("a/\u{0}b", "x").with_name(b"a\xff")], "not UTF-8");
    let deep = "d/".repeat(101) + "file";
    scene.refuses(&[program("shop"), file(&deep, "x")], "100 directories in each other");
    assert!(!scene.folder.path().join("evil").exists());
}

impl Packed {
    fn with_name(mut self, name: &[u8]) -> Self {
        self.name = name.to_owned();
        self
    }
}

#[test]
fn links_that_lead_out_are_refused_and_nothing_is_written_through_a_link() {
    let scene = Scene::new();
    for to in ["/etc/passwd", "../evil", "..", "lib/../../evil", ""] {
        scene.refuses(&[program("shop"), link("out", to)], "`out`, a link to");
    }
    scene.refuses(&[program("shop"), link("lib/out", "../../evil")], "`lib/out`, a link to");
    // A link, then a file through it: whether the link leads out or not.
    scene.refuses(&[program("shop"), directory("lib/"), link("l", "lib"), file("l/x", "x")], "there twice");
    scene.refuses(&[program("shop"), link("l", "."), link("l/x", "shop")], "there twice");
    scene.refuses(&[program("shop"), link("l", "shop"), file("l", "x")], "there twice");
    scene.refuses(&[program("shop"), file("l", "x"), link("l", "shop")], "there twice");
}

#[test]
fn what_is_no_file_directory_or_link_is_refused() {
    let scene = Scene::new();
    let tar = |entry: Packed| {
        let source = scene.archive("a.tgz", &gzip(&tar_of(&[program("shop"), entry])));
        scene.take(&source, "1", &SMALL).unwrap_err().to_string()
    };
    assert!(tar(packed(b'1', "twin", 0o644, b"", "shop")).contains("a hard link"));
    assert!(tar(packed(b'1', "twin", 0o644, b"", "/etc/shadow")).contains("a hard link"));
    assert!(tar(packed(b'3', "null", 0o644, b"", "")).contains("a device"));
    assert!(tar(packed(b'4', "disk", 0o644, b"", "")).contains("a device"));
    assert!(tar(packed(b'6', "pipe", 0o644, b"", "")).contains("a named pipe"));
    assert!(tar(packed(b'S', "holes", 0o644, b"", "")).contains("--sparse"));
    assert!(tar(packed(b'Z', "what", 0o644, b"", "")).contains("unknown kind"));
    assert_eq!(scene.entries(), [""; 0]);
    scene.refuses(&[packed(b'0', "shop", 0o4755, b"", "")], "another user's or group's rights");
    scene.refuses(&[packed(b'0', "shop", 0o2755, b"", "")], "another user's or group's rights");
    let zip = scene.archive("a.zip", &zip_of(&[program("shop"), packed(b'6', "pipe", 0o644, b"", "")]));
    assert!(scene.take(&zip, "1", &SMALL).unwrap_err().to_string().contains("a named pipe"));
}

#[test]
fn a_name_that_is_there_twice_is_refused_and_a_directory_may_be() {
    let scene = Scene::new();
    scene.refuses(&[program("shop"), file("shop", "x")], "`shop`, which is there twice");
    scene.refuses(
        &[program("shop"), file("./lib//x", "1"), file("lib/x", "2")],
        "`lib/x`, which is there twice",
    );
    scene.refuses(&[program("shop"), file("shop/x", "1")], "there twice");
    scene.refuses(&[program("shop"), file("lib/x", "1"), file("lib", "2")], "there twice");
    let twice = [directory("lib/"), program("shop"), directory("lib"), directory("./lib/")];
    for (name, taken) in scene.take_all(&twice) {
        assert!(taken.is_ok(), "{name}: {taken:?}");
    }
    // Upper and lower case are two names where the disk can tell them apart.
    let cases = [program("shop"), file("data", "1"), file("DATA", "2")];
    for (name, taken) in scene.take_all(&cases) {
        let data = std::fs::read_to_string(taken.unwrap().directory.join("data")).unwrap();
        assert_eq!(data, "1", "{name}");
    }
}

#[test]
fn what_is_too_much_is_refused_by_what_arrives_and_not_by_what_is_said() {
    let scene = Scene::new();
    let zeros = packed(b'0', "zeros", 0o644, &vec![0; 2 << 20], "");
    scene.refuses(&[program("shop"), zeros], "more than 1.0 MiB");
    let many: Vec<Packed> = (0..60).map(|n| file(&n.to_string(), "")).collect();
    scene.refuses(&many, "more than 50 files");
    scene.refuses(&[file(&("d/".repeat(60) + "x"), "")], "more than 50 files");
}

#[test]
fn a_bomb_in_a_tar_head_or_its_length_is_refused() {
    let scene = Scene::new();
    let tar = |bytes: Vec<u8>| {
        let source = scene.archive("a.tgz", &gzip(&bytes));
        scene.take(&source, "1", &SMALL).unwrap_err().to_string()
    };
    let name = |size: u64| {
        let long = packed(b'L', "././@LongLink", 0o644, &vec![b'a'; 1 << 20], "");
        [tar_entry(&long, size), tar_of(&[program("shop")])].concat()
    };
    assert!(tar(name(1 << 20)).contains("1048576 bytes long"));
    assert!(tar(name(1 << 40)).contains("bytes long"));
    assert!(tar(name(u64::MAX)).contains("cannot be unpacked"));
    let attribute = packed(b'x', "attributes", 0o644, b"11 size=42\n", "");
    assert!(tar(tar_of(&[attribute, program("shop")])).contains("two lengths"));
    let sparse = packed(b'x', "attributes", 0o644, b"22 GNU.sparse.major=1\n", "");
    assert!(tar(tar_of(&[sparse, program("shop")])).contains("--sparse"));
    let nonsense = packed(b'x', "attributes", 0o644, b"99999999999999999999 path=x\n", "");
    assert!(tar(tar_of(&[nonsense, program("shop")])).contains("makes no sense"));
    let escape = packed(b'x', "attributes", 0o644, b"16 path=../evil\n", "");
    assert!(tar(tar_of(&[escape, program("shop")])).contains("leads upwards"));
    assert_eq!(scene.entries(), [""; 0]);
}

#[test]
fn archives_that_are_cut_or_changed_are_refused() {
    let scene = Scene::new();
    let noise: Vec<u8> = (0..50_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    let entries = [program("shop"), packed(b'0', "noise", 0o644, &noise, "")];
    let tar = tar_of(&entries);
    let whole = [("a.tar.gz", gzip(&tar)), ("a.tar.zst", zstd(&tar)), ("a.zip", zip_of(&entries))];
    for (name, bytes) in whole {
        assert!(scene.take(&scene.archive(name, &bytes), "0", &SMALL).is_ok());
        for cut in [0, 1, 10, bytes.len() / 2, bytes.len() - 1] {
            let source = scene.archive(name, &bytes[..cut]);
            let refused = scene.take(&source, "1", &SMALL).expect_err(name).to_string();
            assert!(refused.contains("cannot be unpacked"), "{name} cut at {cut}: {refused}");
        }
        let mut changed = bytes.clone();
        changed[bytes.len() / 2] ^= 0x55;
        assert!(scene.take(&scene.archive(name, &changed), "1", &SMALL).is_err(), "{name}");
    }
    // The entry says it is longer than what comes: the end of the archive is no part of a file.
    let lies = tar_entry(&program("shop"), 1 << 20);
    let refused = scene.take(&scene.archive("b.tgz", &gzip(&lies)), "1", &SMALL).unwrap_err().to_string();
    assert!(refused.contains("ends too early"), "{refused}");
    assert_eq!(scene.entries(), ["0"]);
}

/// Where the directory of a zip begins, and each of its entries in it.
fn directory_of(zip: &[u8]) -> Vec<usize> {
    zip.windows(4).enumerate().filter(|(_, four)| four == b"PK\x01\x02").map(|(at, _)| at).collect()
}

#[test]
fn zips_that_use_bytes_twice_or_lie_about_themselves_are_refused() {
    let scene = Scene::new();
    let good = zip_of(&[program("shop"), file("a", "aaaa"), file("b", "bbbb")]);
    let spoilt = |spoil: &dyn Fn(&mut Vec<u8>, &[usize])| {
        let mut zip = good.clone();
        let entries = directory_of(&zip);
        assert_eq!(entries.len(), 3);
        spoil(&mut zip, &entries);
        scene.take(&scene.archive("a.zip", &zip), "1", &SMALL).unwrap_err().to_string()
    };
    // The third entry takes its content from where the second has it.
    let overlap = spoilt(&|zip, at| zip.copy_within(at[1] + 42..at[1] + 46, at[2] + 42));
    assert!(overlap.contains("overlap"), "{overlap}");
    let checksum = spoilt(&|zip, at| zip[at[1] + 16] ^= 1);
    assert!(checksum.contains("cannot be unpacked"), "{checksum}");
    let length = spoilt(&|zip, at| zip[at[1] + 24] += 1);
    assert!(length.contains("cannot be unpacked"), "{length}");
    let huge = spoilt(&|zip, at| zip[at[1] + 24..at[1] + 28].copy_from_slice(&[0, 0, 0, 0xF0]));
    assert!(huge.contains("more than 1.0 MiB"), "{huge}");
    let encrypted = spoilt(&|zip, at| zip[at[1] + 8] |= 1);
    assert!(encrypted.contains("encrypted"), "{encrypted}");
    let method = spoilt(&|zip, at| zip[at[1] + 10] = 14);
    assert!(method.contains("only `deflate`"), "{method}");
    let backslash = spoilt(&|zip, at| zip[at[1] + 46] = b'\\');
    assert!(backslash.contains("writes `/`"), "{backslash}");
    let end = good.len() - 22;
    let count = spoilt(&|zip, _| zip[end + 8..end + 12].copy_from_slice(&[9, 0, 9, 0]));
    assert!(count.contains("as many entries as it says"), "{count}");
    assert_eq!(scene.entries(), [""; 0]);
}

#[test]
fn a_zip_from_a_system_without_modes_has_its_programs_known_by_what_is_in_them() {
    let scene = Scene::new();
    let mut zip = zip_of(&[program("shop"), file("data", "words")]);
    for at in directory_of(&zip) {
        // Made by Windows, with no modes.
        zip[at + 5] = 0;
        zip[at + 38..at + 42].copy_from_slice(&[0x20, 0, 0, 0]);
    }
    let taken = scene.take(&scene.archive("a.zip", &zip), "1", &SMALL).unwrap();
    assert!(folder::is_executable(&taken.directory.join("shop")));
    assert!(!folder::is_executable(&taken.directory.join("data")));
}

#[test]
fn an_archive_under_the_name_of_another_kind_is_refused() {
    let scene = Scene::new();
    let tar = tar_of(&[program("shop")]);
    for (name, bytes) in
        [("a.zip", gzip(&tar)), ("a.tgz", zstd(&tar)), ("a.tar.zst", zip_of(&[program("shop")]))]
    {
        let refused = scene.take(&scene.archive(name, &bytes), "1", &SMALL).unwrap_err().to_string();
        assert!(refused.contains("cannot be unpacked"), "{name}: {refused}");
    }
    assert_eq!(scene.entries(), [""; 0]);
}

/// A disk of its own for the releases of a scene.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where we may not mount.
    fn mount(scene: &Scene, mebibytes: u32) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        let size = format!("size={mebibytes}m");
        mount.args(["-t", "tmpfs", "-o", &size, "releases"]).arg(&scene.releases);
        mount.output().is_ok_and(|ran| ran.status.success()).then(|| Self(scene.releases.clone()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ended = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn what_does_not_fit_on_the_disk_is_refused_before_or_on_the_way_and_nothing_is_left() {
    let scene = Scene::new();
    let Some(_disk) = SmallDisk::mount(&scene, 80) else { return };
    let take = |name: &str, bytes: &[u8]| {
        let source = scene.archive(name, bytes);
        scene.take(&source, "1", &Limits::RELEASE).unwrap_err().to_string()
    };
    let zeros = packed(b'0', "zeros", 0o644, &vec![0; 20 << 20], "");
    let honest = gzip(&tar_of(&[program("shop"), zeros.clone()]));
    for (name, bytes) in [("a.tgz", honest), ("a.zip", zip_of(&[program("shop"), zeros]))] {
        let refused = take(name, &bytes);
        assert!(
            refused.contains("it needs 20.0 MiB and 64.0 MiB to spare, and 80.0 MiB are free"),
            "{refused}"
        );
    }
    // The last part says how long it is, and it alone: the whole is more than there is room for.
    let part = gzip(&vec![0; 8 << 20]);
    let begin = tar_entry(&packed(b'0', "zeros", 0o644, b"", ""), 72 << 20);
    let mut lies = gzip(&begin);
    (0..9).for_each(|_| lies.extend(&part));
    lies.extend(gzip(&[0; 1024]));
    let refused = take("b.tgz", &lies);
    assert!(refused.contains("does not fit on the disk"), "{refused}");
    assert_eq!(scene.entries(), [""; 0]);
    let source = scene.archive("c.tgz", &gzip(&tar_of(&[program("shop")])));
    scene.take(&source, "1", &Limits::RELEASE).unwrap();
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => "[a-c]{1,2}".prop_map(String::into_bytes),
        1 => Just(b"..".to_vec()),
        1 => Just(b".".to_vec()),
        1 => Just(Vec::new()),
        1 => Just(b"shop".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join(&b'/'))
}

fn any_packed() -> impl Strategy<Value = Packed> {
    let kind = prop_oneof![4 => Just(b'0'), 2 => Just(b'5'), 3 => Just(b'2'), 1 => prop::sample::select(b"1346Sxg".to_vec())];
    let content = proptest::collection::vec(any::<u8>(), 0..40);
    (any_name(), kind, prop::sample::select(vec![0o644, 0o755, 0o4755, 0]), content, any_name())
        .prop_map(|(name, kind, mode, content, link)| Packed { name, kind, mode, content, link })
}

/// Everything below a directory without following links, by name.
fn everything(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    found
}

/// Whatever was packed: either all of it is inside the release, or nothing has changed.
fn assert_contained(scene: &Scene, name: &str, bytes: &[u8]) {
    let source = scene.archive(name, bytes);
    let before = everything(scene.folder.path());
    let request = PrepareRelease { source, program: "sh".into(), ..scene.request("1", None) };
    let taken = prepare_within(&scene.releases, &request, &SMALL);
    let release = scene.releases.join("shop/1");
    let outside: Vec<PathBuf> = everything(scene.folder.path())
        .into_iter()
        .filter(|path| !path.starts_with(&release) && *path != scene.releases.join("shop"))
        .collect();
    assert_eq!(outside, before);
    if taken.is_ok() {
        let root = release.canonicalize().unwrap();
        for path in everything(&release) {
            if let Ok(leads_to) = path.canonicalize() {
                assert!(leads_to.starts_with(&root), "{} leads to {}", path.display(), leads_to.display());
            }
        }
        remove_tree(&release).unwrap();
    } else {
        assert!(!release.exists());
    }
    std::fs::remove_dir(scene.releases.join("shop")).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_archive_writes_outside_its_release_or_leaves_a_way_out(entries in proptest::collection::vec(any_packed(), 0..8)) {
        let scene = Scene::new();
        let tar = tar_of(&entries);
        assert_contained(&scene, "a.tgz", &gzip(&tar));
        assert_contained(&scene, "a.tar.zst", &zstd(&tar));
        assert_contained(&scene, "a.zip", &zip_of(&entries));
    }

    #[test]
    fn no_damage_to_an_archive_makes_its_reader_fall(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let scene = Scene::new();
        let noise: Vec<u8> = (0..600_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        let entries = [program("shop"), packed(b'0', "noise", 0o644, &noise, ""), link("lib/l", "../shop")];
        let tar = tar_of(&entries);
        for (name, bytes) in [("a.tgz", gzip(&tar)), ("a.tar.zst", zstd(&tar)), ("a.zip", zip_of(&entries))] {
            let mut changed = bytes.clone();
            for (at, value) in &changes {
                let at = at.index(changed.len());
                changed[at] = *value;
            }
            assert_contained(&scene, name, &changed);
            assert_contained(&scene, name, &changed[..cut.index(changed.len())]);
        }
        // Damage below the packing is not caught by its checksum.
        let mut inside = tar;
        for (at, value) in &changes {
            let at = at.index(inside.len());
            inside[at] = *value;
        }
        assert_contained(&scene, "a.tgz", &gzip(&inside));
    }
}
