use super::*;

mod archives;

struct Scene {
    folder: tempfile::TempDir,
    releases: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let releases = folder.path().join("state/releases");
        std::fs::create_dir_all(&releases).unwrap();
        let scene = Self { folder, releases };
        scene.write("lib/data", "data");
        scene.write("shop", "#!/bin/sh\n");
        folder::set_rights(&scene.source().join("shop"), true).unwrap();
        folder::make_link(Path::new("../shop"), &scene.source().join("lib/link")).unwrap();
        scene
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("dist")
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.source().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn request(&self, release: &str, expected: Option<&str>) -> PrepareRelease {
        PrepareRelease {
            service: "shop".parse().unwrap(),
            release: release.parse().unwrap(),
            source: self.source(),
            program: "./shop".into(),
            arguments: Vec::new(),
            expected_hash: expected.map(ToOwned::to_owned),
        }
    }

    fn prepare(&self, release: &str, expected: Option<&str>) -> Result<Prepared, Refused> {
        prepare(&self.releases, &self.request(release, expected))
    }

    fn entries(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.releases.join("shop")).into_iter().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }
}

#[test]
fn a_release_is_copied_whole_with_plain_rights_and_independent_of_its_source() {
    let scene = Scene::new();
    let prepared = scene.prepare("1.4.1", None).unwrap();
    assert_eq!(prepared.directory, scene.releases.join("shop/1.4.1"));
    assert_eq!(scene.entries(), ["1.4.1"]);
    scene.write("lib/data", "changed later");
    let copy = |name: &str| prepared.directory.join(name);
    assert_eq!(std::fs::read_to_string(copy("lib/data")).unwrap(), "data");
    assert_eq!(std::fs::read_link(copy("lib/link")).unwrap(), Path::new("../shop"));
    assert!(folder::is_executable(&copy("shop")) && !folder::is_executable(&copy("lib/data")));
    assert_eq!(prepared.hash.len(), 64);
}

#[test]
fn the_hash_follows_content_names_and_the_executable_bit_and_nothing_else() {
    let scene = Scene::new();
    let first = scene.prepare("1", None).unwrap().hash;
    let other = Scene::new();
    assert_eq!(other.prepare("7", None).unwrap().hash, first);
    other.write("lib/data", "datb");
    let content = other.prepare("8", None).unwrap().hash;
    other.write("lib/data", "data");
    folder::set_rights(&other.source().join("lib/data"), true).unwrap();
    let rights = other.prepare("9", None).unwrap().hash;
    std::fs::rename(other.source().join("lib/data"), other.source().join("lib/date")).unwrap();
    let name = other.prepare("10", None).unwrap().hash;
    let all = std::collections::BTreeSet::from([first, content, rights, name]);
    assert_eq!(all.len(), 4);
}

#[test]
fn the_same_version_again_is_reused_and_with_other_content_refused() {
    let scene = Scene::new();
    let first = scene.prepare("1.4.1", None).unwrap();
    assert_eq!(scene.prepare("1.4.1", Some(&first.hash)).unwrap(), first);
    // Another configuration of the same version is another copy of the same content.
    let second = scene.prepare("1.4.1+c2", Some(&first.hash)).unwrap();
    assert_eq!(second.hash, first.hash);
    scene.write("lib/data", "other");
    let said = scene.prepare("1.4.1", Some(&first.hash)).unwrap_err().to_string();
    assert!(said.contains("version 1.4.1 of shop is known with other content") && said.contains("--version"));
    assert!(matches!(scene.prepare("1.4.1+c3", Some(&first.hash)), Err(Refused::OtherContent { .. })));
    assert_eq!(scene.entries(), ["1.4.1", "1.4.1+c2"]);
}

#[test]
fn a_copy_that_somebody_changed_is_noticed() {
    let scene = Scene::new();
    let first = scene.prepare("1.4.1", None).unwrap();
    std::fs::write(first.directory.join("lib/data"), "tampered").unwrap();
    assert!(matches!(scene.prepare("1.4.1", Some(&first.hash)), Err(Refused::CopyChanged(_))));
}

#[test]
fn a_copy_that_no_record_knows_is_replaced() {
    let scene = Scene::new();
    scene.prepare("1.4.1", None).unwrap();
    scene.write("lib/data", "new");
    let again = scene.prepare("1.4.1", None).unwrap();
    assert_eq!(std::fs::read_to_string(again.directory.join("lib/data")).unwrap(), "new");
}

#[test]
fn what_does_not_belong_into_a_release_is_refused_by_name_and_nothing_is_left() {
    let outside =
        |scene: &Scene| folder::make_link(Path::new("../../etc"), &scene.source().join("lib/out")).unwrap();
    let socket = |scene: &Scene| {
        drop(host::notify::bind(&scene.source().join("lib/sock"), None).unwrap());
    };
    let set_id = |scene: &Scene| {
        scene.write("lib/su", "");
        let path = scene.source().join("lib/su");
        assert!(std::process::Command::new("chmod").arg("4755").arg(path).status().unwrap().success());
    };
    let cases = [
        (&outside as &dyn Fn(&Scene), "`lib/out`, a link to `../../etc`"),
        (&socket, "`lib/sock`, a socket"),
        (&set_id, "`lib/su`, a program"),
    ];
    for (spoil, said) in cases {
        let scene = Scene::new();
        spoil(&scene);
        let error = scene.prepare("1", None).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert_eq!(scene.entries(), [""; 0]);
    }
}

#[test]
fn hard_links_become_files_of_their_own() {
    let scene = Scene::new();
    std::fs::hard_link(scene.source().join("shop"), scene.source().join("twin")).unwrap();
    let prepared = scene.prepare("1", None).unwrap();
    std::fs::write(prepared.directory.join("twin"), "changed").unwrap();
    assert_eq!(std::fs::read_to_string(prepared.directory.join("shop")).unwrap(), "#!/bin/sh\n");
}

#[test]
fn the_program_must_be_there_and_executable() {
    let scene = Scene::new();
    let refused = |program: &str| {
        let request = PrepareRelease { program: program.into(), ..scene.request("1", None) };
        prepare(&scene.releases, &request).map_err(|error| error.to_string())
    };
    assert!(refused("./nothing").unwrap_err().contains("there is no such file"));
    assert!(refused("./lib").unwrap_err().contains("it is not a file"));
    assert!(refused("lib/data").unwrap_err().contains("chmod +x"));
    assert!(refused("../shop").unwrap_err().contains("leads out"));
    for found_later in ["python3", "/usr/bin/env", "${HANDOVER}"] {
        refused(found_later).unwrap();
    }
}

#[test]
fn a_source_that_is_none_is_said_by_its_path() {
    let scene = Scene::new();
    let from = |source: PathBuf| {
        let request = PrepareRelease { source, ..scene.request("1", None) };
        prepare(&scene.releases, &request).unwrap_err().to_string()
    };
    assert!(from(scene.folder.path().join("nowhere")).contains("nowhere cannot be read"));
    assert!(from(scene.source().join("lib/data")).contains("is neither a directory nor an archive"));
    assert!(from(scene.folder.path().to_owned()).contains("would contain itself"));
}

#[test]
fn only_releases_are_removed_and_leftovers_go() {
    let scene = Scene::new();
    let service: ServiceName = "shop".parse().unwrap();
    let first = scene.prepare("1", None).unwrap();
    scene.prepare("2", None).unwrap();
    for wrong in [scene.source(), scene.releases.join("shop"), scene.releases.join("shop/1/lib")] {
        assert!(remove(&scene.releases, &service, &wrong).is_err());
        assert!(wrong.exists());
    }
    remove(&scene.releases, &service, &first.directory).unwrap();
    remove(&scene.releases, &service, &first.directory).unwrap();
    let ours = own_prefix() + "4";
    std::fs::create_dir_all(scene.releases.join("shop/.tmp-1-3/lib")).unwrap();
    std::fs::create_dir_all(scene.releases.join("shop").join(&ours)).unwrap();
    remove_leftovers(&scene.releases);
    assert_eq!(scene.entries(), [ours.as_str(), "2"], "what this process is just making stays");
}
