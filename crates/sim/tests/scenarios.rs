//! Golden scenarios: each `scenarios/NAME.txt` gives `NAME.out`. `UPDATE_EXPECT=1` writes them anew.

use std::path::{Path, PathBuf};

fn scenarios() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = std::fs::read_dir(folder).expect("the scenarios are there");
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "txt"));
    paths.sort();
    paths
}

#[test]
fn every_scenario_gives_what_it_gave() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut different = Vec::new();
    for path in scenarios() {
        let text = std::fs::read_to_string(&path).unwrap();
        let world = sim::scenario::play(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(world.violations(), [] as [String; 0], "{}", path.display());
        let mut output = world.log().join("\n");
        output.push('\n');
        let expected = path.with_extension("out");
        if update {
            std::fs::write(&expected, &output).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default().replace("\r\n", "\n") != output {
            different.push(format!("{} differs:\n{output}", expected.display()));
        }
    }
    assert!(different.is_empty(), "{}\nUPDATE_EXPECT=1 writes them anew", different.join("\n"));
}

#[test]
fn the_same_scenario_gives_the_same_twice() {
    let text = std::fs::read_to_string(&scenarios()[0]).unwrap();
    let play = || sim::scenario::play(&text).unwrap().log().to_vec();
    assert_eq!(play(), play());
}
